package status

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/internal/gate"
)

// Config is what a Server shows and to whom.
type Config struct {
	Bind string // host:port; port 0 takes a free one
	// Token is what a request must carry: as "Authorization: Bearer TOKEN", as the
	// cookie that /?token=TOKEN sets, or in that form. It must not be empty.
	Token string
	// AlsoTokens are accepted too; see Rekey.
	AlsoTokens []string
	// TLS is required where Bind is not loopback.
	TLS *tls.Config
	// Runs returns the runs to show; it is called at each request.
	Runs func() ([]*Run, error)
	// Metrics serves /metrics; nil: 404.
	Metrics http.Handler
	// Alive and Ready answer /healthz and /readyz; nil: yes.
	Alive, Ready func() error
	Log          *slog.Logger // nil: nothing is logged
}

// Server serves the page, the API and the metrics.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	hub      *hub
	loopback bool
	gate     *gate.Gate // of connections over which no token has come
	pass     atomic.Pointer[pass]
}

// ErrNotLoopback is returned for an address that others can reach without TLS.
var ErrNotLoopback = errors.New("status: beyond loopback the page needs TLS and a token; set a cluster secret (AGRDIST_CLUSTER_SECRET), or bind it to 127.0.0.1")

// Listen opens the address. Serve must follow.
func Listen(cfg Config) (*Server, error) {
	if cfg.Token == "" {
		return nil, errors.New("status: no token")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("status: dashboard.bind %s: %w", cfg.Bind, err)
	}
	s := &Server{
		cfg: cfg, hub: newHub(), listener: l,
		gate: gate.New(gate.Config{Limit: maxStrangers, PerHost: maxFromHost, Patience: patience}),
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		s.loopback = a.IP.IsLoopback()
	}
	if !s.loopback && cfg.TLS == nil {
		return nil, errors.Join(ErrNotLoopback, l.Close())
	}
	p := &pass{tokens: append([]string{cfg.Token}, cfg.AlsoTokens...)}
	s.listener = s.gate.Guard(l)
	if cfg.TLS != nil {
		p.pair = &cfg.TLS.Certificates[0]
		now := cfg.TLS.Clone()
		now.Certificates = nil
		now.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pass.Load().pair, nil }
		s.listener = tls.NewListener(s.listener, now)
	}
	s.pass.Store(p)
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the address that is bound.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Endpoint is how to reach the server: at host, if that is not empty, instead of the
// address that is bound.
func (s *Server) Endpoint(host string) (Endpoint, error) {
	address := s.Addr()
	if host != "" {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return Endpoint{}, fmt.Errorf("status: %w", err)
		}
		address = net.JoinHostPort(host, port)
	}
	e := Endpoint{URL: "http://" + address, Token: s.token(), PID: os.Getpid()}
	if s.cfg.TLS != nil {
		e.URL = "https://" + address
		cert, err := x509.ParseCertificate(s.pass.Load().pair.Certificate[0])
		if err != nil {
			return Endpoint{}, fmt.Errorf("status: %w", err)
		}
		e.Pin = pin(cert)
	}
	return e, nil
}

// URL is what a person opens, the token included.
func (s *Server) URL() string {
	scheme := "http"
	if s.cfg.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.Addr() + "/?token=" + url.QueryEscape(s.token())
}

// Serve answers until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-ctx.Done()
		s.hub.close()
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		if s.http.Shutdown(end) != nil {
			_ = s.http.Close() // the deadline has passed; nothing else can be done
		}
	}()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// handler puts the routes behind the checks.
func (s *Server) handler() http.Handler {
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", probe(s.cfg.Alive))
	open.HandleFunc("GET /readyz", probe(s.cfg.Ready))

	inner := http.NewServeMux()
	inner.HandleFunc("GET /{$}", s.page)
	inner.Handle("GET /static/", static())
	inner.HandleFunc("GET /api/runs", s.runs)
	inner.HandleFunc("GET /api/runs/{run}/status", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		v, err := r.View(q.Context())
		return reply(w, v, err)
	}))
	inner.HandleFunc("GET /api/runs/{run}/series", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		b, err := r.history.chart(number(q, "points", 2000))
		return reply(w, json.RawMessage(b), err)
	}))
	inner.HandleFunc("GET /api/runs/{run}/stream", s.withRun(s.stream))
	inner.HandleFunc("GET /api/runs/{run}/samples", s.withRun(func(w http.ResponseWriter, _ *http.Request, r *Run) error {
		all, err := r.Samples()
		return reply(w, all, err)
	}))
	inner.HandleFunc("GET /api/runs/{run}/samples/{file}", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		if !stepFile.MatchString(q.PathValue("file")) {
			return errNotFound
		}
		http.ServeFile(w, q, filepath.Join(r.Dir, "samples", q.PathValue("file")))
		return nil
	}))
	inner.HandleFunc("GET /api/runs/{run}/config", s.withRun(func(w http.ResponseWriter, _ *http.Request, r *Run) error {
		c, err := r.Configuration()
		return reply(w, c, err)
	}))
	inner.HandleFunc("GET /api/runs/{run}/logs", s.withRun(func(w http.ResponseWriter, _ *http.Request, r *Run) error {
		names, err := r.Logs()
		return reply(w, names, err)
	}))
	inner.HandleFunc("GET /api/runs/{run}/logs/{file}", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		lines, err := r.Tail(q.PathValue("file"), number(q, "lines", 200), q.FormValue("filter"))
		return reply(w, lines, err)
	}))
	inner.HandleFunc("POST /api/runs/{run}/checkpoint", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		return act(w, q, r.Checkpoint)
	}))
	inner.HandleFunc("POST /api/runs/{run}/stop", s.withRun(func(w http.ResponseWriter, q *http.Request, r *Run) error {
		return act(w, q, r.Stop)
	}))
	if s.cfg.Metrics != nil {
		inner.Handle("GET /metrics", s.cfg.Metrics)
	}
	open.Handle("/", s.guard(inner))
	return s.headers(open)
}

// headers are on every answer. Nothing on the page comes from elsewhere, and no
// other page may show it in a frame.
func (s *Server) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		// A page of another origin that was rebound to our address by DNS names
		// itself in Host.
		if s.loopback && !localHost(q.Host) {
			http.Error(w, "this address is served for localhost alone", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, q)
	})
}

func localHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return ip != nil && ip.IsLoopback()
}

var errNotFound = errors.New("not found")

func (s *Server) find(name string) (*Run, error) {
	all, err := s.cfg.Runs()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Name == name {
			return r, nil
		}
	}
	return nil, errNotFound
}

func (s *Server) withRun(f func(w http.ResponseWriter, q *http.Request, r *Run) error) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		r, err := s.find(q.PathValue("run"))
		if err == nil {
			err = f(w, q, r)
		}
		switch {
		case errors.Is(err, errNotFound):
			http.NotFound(w, q)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

func (s *Server) runs(w http.ResponseWriter, q *http.Request) {
	all, err := s.cfg.Runs()
	views := []View{}
	for _, r := range all {
		v, e := r.View(q.Context())
		if e != nil {
			v = View{Run: r.Name, Detail: e.Error()}
		}
		v.Workers, v.Nodes = nil, nil
		views = append(views, v)
	}
	if err := reply(w, views, err); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // who went away does not want it
	return nil
}

// act carries out what a person asked for.
func act(w http.ResponseWriter, q *http.Request, f func(ctx context.Context) error) error {
	if f == nil {
		return errNotFound
	}
	if err := f(q.Context()); err != nil {
		return err
	}
	return reply(w, map[string]bool{"accepted": true}, nil)
}

func probe(f func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if f != nil {
			if err := f(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = w.Write([]byte("ok\n")) // who went away does not want it
	}
}

func number(q *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(q.FormValue(name))
	if err != nil || n < 1 || n > 1_000_000 {
		return otherwise
	}
	return n
}
