package status

import (
	"embed"
	"net/http"
	"strings"
)

//go:embed web
var web embed.FS

//go:embed web/page.html
var pageFile string

// page is the whole first view: the numbers are in it without JavaScript.
func (s *Server) page(w http.ResponseWriter, q *http.Request) {
	runs, err := s.cfg.Runs()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	data := firstView{csrf: s.csrf()}
	for _, r := range runs {
		v, err := r.View(q.Context())
		if err != nil {
			v = View{Run: r.Name, Detail: err.Error(), Step: -1, CheckpointStep: -1, RestartsLeft: -1}
		}
		if len(data.runs) == 0 || r.Name == q.FormValue("run") {
			data.current = v
			data.actions = r.Stop != nil
		}
		data.runs = append(data.runs, v)
	}
	page, err := data.html(pageFile)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(page)) // who went away does not want it
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
