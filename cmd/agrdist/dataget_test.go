package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

func TestDataGetRefusals(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	out := filepath.Join(t.TempDir(), "out")
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"unknown set":     {[]string{"mnist"}, exitUsage, []string{`"mnist"`, "cifar10, emoji32 or inception"}},
		"other weights":   {[]string{"inception", "--out", out, "--from", "../../checkpoint/pth/testdata/zip.pth"}, exitFailed, []string{"it is not the published file", "data get inception"}},
		"none":            {nil, exitUsage, []string{"an argument is missing"}},
		"both sources":    {[]string{"cifar10", "--from", "x", "--mirror", "https://x"}, exitUsage, []string{"choose one"}},
		"mirror as file":  {[]string{"cifar10", "--mirror", "/mnt/x.tar.gz"}, exitUsage, []string{"https://", "--from takes a file"}},
		"missing archive": {[]string{"cifar10", "--out", out, "--from", "/no/such.tar.gz"}, exitFailed, []string{"/no/such.tar.gz"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, run(t, append([]string{"data", "get"}, c.args...)...), c.code, c.want...)
		})
	}
	p := run(t, "data", "get", "emoji32", "--out", out, "--mirror", server.URL).ended(exitFailed)
	p.says("emoji-datasource-google-16.0.0.tgz: the server answers 404 Not Found")
	p.says("agrdist data get emoji32 --from FILE")
	p = run(t, "data", "get", "inception", "--out", out, "--mirror", server.URL).ended(exitFailed)
	p.says("pt_inception-2015-12-05-6726825d.pth: the server answers 404 Not Found")
	p.says("agrdist data get inception --from FILE")
}
