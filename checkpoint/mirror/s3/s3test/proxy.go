package s3test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
)

// proxy passes requests on as they came: their signature names the host.
func proxy(tb testing.TB, endpoint string, first func(http.ResponseWriter, *http.Request) (answered bool)) http.Handler {
	tb.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
		r.Out.Host = r.In.Host
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first(w, r) {
			pass.ServeHTTP(w, r)
		}
	})
}
