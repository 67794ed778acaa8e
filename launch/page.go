package launch

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/status"
)

// page is the run's status page on this node.
type page struct {
	newest   atomic.Pointer[cluster.Status]
	seen     atomic.Pointer[time.Time] // of the newest status; with the monotonic clock's reading
	requests chan os.Signal
	announce func() // tells of the page, once the run has begun
	// rekeyed has the page follow the run's secrets; nil: it does not depend on them.
	rekeyed func(secrets [][]byte) error
	told    sync.Once
}

// watch notes where the run stands. It is called by the agent alone.
func (p *page) watch(s cluster.Status) {
	if p.announce != nil {
		p.told.Do(p.announce)
	}
	p.newest.Store(&s)
	now := time.Now()
	p.seen.Store(&now)
}

// errStarting is the answer before the first status.
var errStarting = errors.New("the run is starting")

func (p *page) status(context.Context) (cluster.Status, error) {
	s := p.newest.Load()
	if s == nil {
		return cluster.Status{}, errStarting
	}
	return *s, nil
}

// ready reports whether this node's workers are in a generation.
func (p *page) ready() error {
	s, err := p.status(context.Background())
	if err == nil && s.State != cluster.StateRunning && s.State != cluster.StateFinishing {
		return fmt.Errorf("the run is %s: %s", s.State, s.Detail)
	}
	return err
}

// alive reports whether the agent's loop still turns: it tells of the run about twice a
// second once there is a coordinator.
func (p *page) alive() error {
	if at := p.seen.Load(); at != nil && time.Since(*at) > time.Minute {
		return errors.New("the agent's loop has not turned for a minute")
	}
	return nil
}

// ask passes a request on as the signal that means the same.
func (p *page) ask(s os.Signal) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case p.requests <- s:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// serve opens the page and answers until the returned function is called.
func (p *page) serve(r *run, secrets [][]byte, log *slog.Logger) (end func(), err error) {
	if r.Page == nil || r.cfg.Dashboard.Bind == config.Off {
		return func() {}, nil
	}
	name := filepath.Base(string(r.dir))
	shown := status.NewRun(name, string(r.dir))
	shown.Status, shown.Batch, shown.Differs = p.status, r.cfg.Train.GlobalBatch, Differs
	shown.Checkpoint, shown.Stop = p.ask(syscall.SIGUSR1), p.ask(syscall.SIGINT)
	cfg := status.Config{
		Bind: r.cfg.Dashboard.Bind, Runs: status.One(shown), Metrics: status.Metrics(shown),
		Alive: p.alive, Ready: p.ready, Log: log.With("part", "dashboard"),
	}
	follows, err := p.protect(&cfg, secrets, r.cfg.Cluster.RunID)
	if err != nil {
		return nil, err
	}
	if err := certificate(&cfg, r.cfg.Dashboard); err != nil {
		return nil, err
	}
	s, err := status.Listen(cfg)
	if err != nil {
		return nil, &config.Error{Source: "dashboard.bind", Err: err}
	}
	var endpoint status.Endpoint
	publish := func() (remove func() error, err error) {
		if endpoint, err = s.Endpoint(p.host(cfg.Bind, r.cfg.Cluster.Advertise)); err != nil {
			return nil, err
		}
		endpoint.Run = name
		return status.Publish(string(r.dir), r.node, endpoint)
	}
	if follows {
		p.rekeyed = func(secrets [][]byte) error {
			tokens, pair, err := pageKeys(secrets, r.cfg.Cluster.RunID)
			if err != nil {
				return err
			}
			if r.cfg.Dashboard.CertFile != "" {
				pair = nil
			}
			s.Rekey(tokens, pair)
			_, err = publish()
			return err
		}
	}
	remove, err := publish()
	if err != nil {
		log.Warn("the page's address is not in the run's directory", "err", err)
		remove = func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	link := endpoint.Link()
	p.announce = func() { r.Page(link) }
	return func() {
		cancel()
		if err := errors.Join(<-done, remove()); err != nil {
			log.Warn("the page ended badly", "err", err)
		}
	}, nil
}

// Differs lists the settings of a resolved configuration that are not the defaults.
func Differs(yaml []byte) ([]status.Setting, error) {
	own, err := config.FromYAML(yaml)
	if err != nil {
		return nil, err
	}
	defaults := config.Default()
	show := func(v any) string {
		if v == nil {
			return "unset"
		}
		return fmt.Sprint(v)
	}
	out := []status.Setting{}
	for _, k := range config.Keys() {
		if a, b := show(k.Value(own)), show(k.Value(&defaults)); a != b {
			out = append(out, status.Setting{Key: k.Name, Value: a, Default: b})
		}
	}
	return out, nil
}

// host is the name to reach the page at, where that is not the address it is bound to:
// 0.0.0.0 and :: are all addresses of this machine and nobody's in particular.
func (p *page) host(bind, advertise string) string {
	host, _, err := net.SplitHostPort(bind)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return ""
	}
	if advertise != "" {
		return advertise
	}
	all, err := membership.Addresses()
	if err != nil || len(all) == 0 {
		return "localhost"
	}
	return all[0].IP.String()
}

// certificate replaces the page's own by one that was given.
func certificate(cfg *status.Config, d config.Dashboard) error {
	if d.CertFile == "" && d.KeyFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(d.CertFile, d.KeyFile)
	if err != nil {
		return &config.Error{Source: "dashboard.cert_file, dashboard.key_file", Err: err}
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return nil
}

// PageToken is the token of a run's page beyond loopback; see security.DerivePage.
func PageToken(c *config.Config) (string, error) {
	p, given, err := givenPage(c)
	if err == nil && !given {
		err = &config.Error{Source: "cluster.secret", Err: errors.New("there is none to derive the token from; set AGRDIST_CLUSTER_SECRET or cluster.secret_file")}
	}
	return p.Token, err
}

// givenPage derives what protects a run's page from the secret that the user has given,
// of two the one in use.
func givenPage(c *config.Config) (page security.Page, given bool, err error) {
	secrets, err := givenSecrets(c)
	if err != nil || len(secrets) == 0 {
		return page, false, err
	}
	page, err = security.DerivePage(stretch(secrets[:1], c)[0], c.Cluster.RunID)
	return page, err == nil, err
}

// pageKeys are the tokens that a page beyond loopback accepts, and the certificate of the
// secret in use.
func pageKeys(secrets [][]byte, runID string) (tokens []string, pair *tls.Certificate, err error) {
	for i, secret := range secrets {
		derived, err := security.DerivePage(secret, runID)
		if err != nil {
			return nil, nil, err
		}
		tokens = append(tokens, derived.Token)
		if i == 0 {
			c, err := derived.Server()
			if err != nil {
				return nil, nil, err
			}
			pair = &c.Certificates[0]
		}
	}
	return tokens, pair, nil
}

// rekey has the page follow the run's secrets.
func (p *page) rekey(secrets [][]byte, log *slog.Logger) {
	if p.rekeyed == nil {
		return
	}
	if err := p.rekeyed(secrets); err != nil {
		log.Warn("the page keeps its token and key", "err", err)
	}
}

// PageClient asks the page at an address, HOST:PORT or a URL. With a secret, the server
// must have the key that follows from it, and the token follows too where none is given.
// Without one, the server speaks http if it is on the loopback interface, and else must
// have a certificate that this machine trusts: a token never goes over a network in clear.
func PageClient(c *config.Config, where, token string) (status.Client, error) {
	scheme, addr, _ := strings.Cut(where, "://")
	if addr == "" {
		scheme, addr = "", where
	}
	addr = strings.TrimSuffix(addr, "/")
	host, _, err := net.SplitHostPort(addr)
	if err != nil || scheme != "" && scheme != "http" && scheme != "https" {
		return status.Client{}, fmt.Errorf("%q is neither a run's directory nor HOST:PORT nor https://HOST:PORT", where)
	}
	p, given, err := givenPage(c)
	if err != nil {
		return status.Client{}, err
	}
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if scheme == "" {
		scheme = "https"
		if local {
			scheme = "http"
		}
	}
	switch {
	case scheme == "http" && !local:
		return status.Client{}, fmt.Errorf("%s: beyond loopback, pages answer https only", where)
	case scheme == "http":
		return status.Client{URL: "http://" + addr, Token: token}, nil
	}
	client := status.Client{URL: "https://" + addr, Token: token, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}
	if given && c.Dashboard.CertFile == "" {
		client.TLS = p.Client()
	}
	if given && token == "" {
		client.Token = p.Token
	}
	return client, nil
}

// protect gives the page its token, and beyond loopback its key: there both follow from the
// run's secret.
func (p *page) protect(cfg *status.Config, secrets [][]byte, runID string) (follows bool, err error) {
	host, _, err := net.SplitHostPort(cfg.Bind)
	if err != nil {
		return false, &config.Error{Source: "dashboard.bind", Err: fmt.Errorf("%q is not HOST:PORT, nor off", cfg.Bind)}
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails (crypto/rand)
		cfg.Token = hex.EncodeToString(random[:])
		return false, nil
	}
	if len(secrets) == 0 {
		return false, &config.Error{Source: "dashboard.bind", Err: status.ErrNotLoopback}
	}
	tokens, pair, err := pageKeys(secrets, runID)
	if err != nil {
		return false, err
	}
	cfg.Token, cfg.AlsoTokens = tokens[0], tokens[1:]
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*pair}}
	return true, nil
}
