package status

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Endpoint is where a node's page answers. It lies in the run's directory, readable
// by its owner alone, for as long as the node's agent lives.
type Endpoint struct {
	URL   string `json:"url"` // without the token
	Token string `json:"token"`
	Run   string `json:"run"` // the run's name in the API
	PID   int    `json:"pid"`
	Host  string `json:"host"`
	// Pin is the SHA-256 of the server's public key (SubjectPublicKeyInfo), in
	// hexadecimal, where URL is https.
	Pin string `json:"pin,omitempty"`
}

// Link is the address with its token, for a browser.
func (e Endpoint) Link() string { return e.URL + "/?token=" + url.QueryEscape(e.Token) }

// TLS accepts the server whose key is pinned, and no other; nil for http.
func (e Endpoint) TLS() *tls.Config {
	if e.Pin == "" {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the key itself
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 || pin(cs.PeerCertificates[0]) != e.Pin {
				return errors.New("status: the server does not have the key that the run's directory names")
			}
			return nil
		},
	}
}

func pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func endpointPath(dir, node string) string {
	return filepath.Join(dir, "dashboard-"+url.PathEscape(node)+".json")
}

// Publish writes the endpoint of a node into the run's directory and returns how to
// remove it.
func Publish(dir, node string, e Endpoint) (remove func() error, err error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	path := endpointPath(dir, node)
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return func() error { return os.Remove(path) }, nil
}

// Endpoints are the pages that a run's directory names, by node. Files that are not
// readable, or are no endpoints, are passed over: the run may be another user's.
func Endpoints(dir string) []Endpoint {
	names, err := filepath.Glob(filepath.Join(escape(dir), "dashboard-*.json"))
	if err != nil {
		return nil
	}
	sort.Strings(names)
	var out []Endpoint
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var e Endpoint
		if json.Unmarshal(b, &e) == nil && e.URL != "" {
			out = append(out, e)
		}
	}
	return out
}

// Client asks a Server.
type Client struct {
	URL   string // scheme://host:port
	Token string
	TLS   *tls.Config // where URL is https
}

// do sends a request for path and decodes the JSON of the answer into v.
func (c Client) do(ctx context.Context, method, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	q.Header.Set("Authorization", "Bearer "+c.Token)
	transport := &http.Transport{TLSClientConfig: c.TLS, DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport}).Do(q)
	if _, unknown := errors.AsType[*tls.CertificateVerificationError](err); unknown {
		return fmt.Errorf("status: %w; give the run's secret and cluster.run_id as its nodes have them, and the server is known by its key", err)
	}
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("status: %s: %w", c.URL, err)
	}
	switch {
	case r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden:
		return ErrToken
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("status: %s answers %s: %s", c.URL, r.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("status: %s does not answer as agrdist does: %w", c.URL, err)
	}
	return nil
}

// ErrToken is returned where the server does not accept the token.
var ErrToken = errors.New("status: the token is not accepted; give the one of the address that the run printed, with --token or AGRDIST_DASHBOARD_TOKEN")

// View fetches the view of a run; an empty name is the first that the server shows.
func (c Client) View(ctx context.Context, run string) (View, error) {
	if run == "" {
		var all []View
		if err := c.do(ctx, http.MethodGet, "/api/runs", &all); err != nil {
			return View{}, err
		}
		if len(all) == 0 {
			return View{}, fmt.Errorf("status: %s shows no run", c.URL)
		}
		run = all[0].Run
	}
	var v View
	err := c.do(ctx, http.MethodGet, "/api/runs/"+url.PathEscape(run)+"/status", &v)
	return v, err
}

// Checkpoint asks a run to write a checkpoint now.
func (c Client) Checkpoint(ctx context.Context, run string) error {
	var answer map[string]bool
	return c.do(ctx, http.MethodPost, "/api/runs/"+url.PathEscape(run)+"/checkpoint", &answer)
}

// Stop asks a run to save and end on all nodes.
func (c Client) Stop(ctx context.Context, run string) error {
	var answer map[string]bool
	return c.do(ctx, http.MethodPost, "/api/runs/"+url.PathEscape(run)+"/stop", &answer)
}
