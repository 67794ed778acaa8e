package status

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
)

//go:embed web
var web embed.FS

var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"span": roundSeconds, "size": size,
	"rank": WorkerView.place,
}).ParseFS(web, "web/page.html"))

// page is the whole first view: the numbers are in it without JavaScript.
func (s *Server) page(w http.ResponseWriter, q *http.Request) {
	runs, err := s.cfg.Runs()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	data := struct {
		Runs    []View
		Current View
		Several bool
		Actions bool
		CSRF    string
	}{CSRF: s.csrf()}
	for _, r := range runs {
		v, err := r.View(q.Context())
		if err != nil {
			v = View{Run: r.Name, Detail: err.Error(), Step: -1, CheckpointStep: -1, RestartsLeft: -1}
		}
		if len(data.Runs) == 0 || r.Name == q.FormValue("run") {
			data.Current = v
			data.Actions = r.Stop != nil
		}
		data.Runs = append(data.Runs, v)
	}
	data.Several = len(runs) > 1
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // who went away does not want it
}

// static serves the page's own files and nothing else.
func static() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		name := strings.TrimPrefix(q.URL.Path, "/static/")
		switch name {
		case "app.js", "app.css", "uPlot.iife.min.js", "uPlot.min.css", "icon.svg":
			http.ServeFileFS(w, q, web, "web/"+name) //nolint:gosec // one of the names above
		default:
			http.NotFound(w, q)
		}
	})
}
