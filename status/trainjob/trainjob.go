package trainjob

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the trainer's controller puts into the environment of a TrainJob's pods, where its
// feature gate TrainJobStatus is on.
const (
	EnvURL    = "KUBEFLOW_TRAINER_SERVER_URL"     // where to POST
	EnvCACert = "KUBEFLOW_TRAINER_SERVER_CA_CERT" // a file: who signed the server's certificate
	EnvToken  = "KUBEFLOW_TRAINER_SERVER_TOKEN"   // a file: the bearer token, renewed by the kubelet
)

// Progress is where a run stands.
type Progress struct {
	Step, Steps int64
	Remaining   time.Duration // to the end; negative: not known
	Metrics     []Metric
}

// Metric is a number with a name of at most 64 characters.
type Metric struct {
	Name  string
	Value float64
}

// Config says where to push, and how often.
type Config struct {
	URL           string
	CACert, Token string        // files
	Every         time.Duration // between two pushes
	Longest       time.Duration // between two tries while the server refuses
	Logger        *slog.Logger
	Transport     http.RoundTripper // nil: HTTPS by CACert
}

// FromEnvironment is the configuration that the controller gave, with pushes every 15 s;
// false: there is none, this is no TrainJob.
func FromEnvironment(getenv func(string) string) (Config, bool) {
	c := Config{URL: getenv(EnvURL), CACert: getenv(EnvCACert), Token: getenv(EnvToken), Every: 15 * time.Second, Longest: 2 * time.Minute}
	return c, c.URL != "" && c.CACert != "" && c.Token != ""
}

// Pusher pushes the newest progress until it is closed.
type Pusher struct {
	cfg    Config
	cancel func()
	done   chan struct{}
	wake   chan struct{}

	mu     sync.Mutex
	newest *Progress // nil: nothing new, or another node speaks for the run
	failed string    // the last error logged
}

// Start begins to push what Observe brings.
func Start(ctx context.Context, c Config) *Pusher {
	ctx, cancel := context.WithCancel(ctx)
	p := &Pusher{cfg: c, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	go p.loop(ctx)
	return p
}

// Observe takes in where the run stands; nil: another node tells from now on. It does not
// block.
func (p *Pusher) Observe(now *Progress) {
	p.mu.Lock()
	p.newest = now
	p.mu.Unlock()
	if now == nil {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // it knows already
	}
}

// Close ends the pushes with a last word, unless that is nil, for which it takes a few
// seconds at most.
func (p *Pusher) Close(last *Progress) {
	p.cancel()
	<-p.done
	if last == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWord)
	defer cancel()
	for try := 1; ; try++ {
		err := p.push(ctx, *last)
		p.note(err)
		if err == nil || !pause(ctx, p.next(err, try)) {
			return
		}
	}
}

// lastWord is the time for the last push with its repetitions: a pod that is done should
// end.
const lastWord = 10 * time.Second

func (p *Pusher) loop(ctx context.Context) {
	defer close(p.done)
	failures := 0
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		now := p.newest
		p.mu.Unlock()
		if now == nil {
			continue
		}
		err := p.push(ctx, *now)
		if ctx.Err() != nil {
			return
		}
		p.note(err)
		wait := p.cfg.Every
		if failures++; err == nil {
			failures = 0
		} else {
			wait = max(wait, p.next(err, failures))
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// pause waits; false: the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refusal is an answer other than success.
type refusal struct {
	code  int
	after time.Duration // that the server asks for; 0: nothing
	text  string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the trainer's status server answered %d %s: %s", r.code, http.StatusText(r.code), r.text)
}

// next is the pause after a number of failures in a row: what the server asks for, or
// twice as long each time, a random part less so that runs do not meet again.
func (p *Pusher) next(err error, failures int) time.Duration {
	if r, ok := errors.AsType[*refusal](err); ok && r.after > 0 {
		return min(r.after, p.cfg.Longest)
	}
	d := min(time.Second<<min(failures-1, 20), p.cfg.Longest)
	return d - time.Duration(rand.Int64N(int64(d)/4+1)) //nolint:gosec // spreads the retries, is no secret
}

// note logs a failure when it is another than the last, and its end.
func (p *Pusher) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case p.cfg.Logger == nil || text == p.failed:
	case err != nil:
		p.cfg.Logger.Warn("progress is not in the TrainJob's status; training is not affected", "err", text)
	default:
		p.cfg.Logger.Info("progress is in the TrainJob's status again")
	}
	p.failed = text
}

// The body of a push, as the trainer's API has it (UpdateTrainJobStatusRequest).
type (
	request struct {
		TrainerStatus status `json:"trainerStatus"`
	}
	status struct {
		ProgressPercentage        int32    `json:"progressPercentage"`
		EstimatedRemainingSeconds *int32   `json:"estimatedRemainingSeconds,omitempty"`
		Metrics                   []metric `json:"metrics,omitempty"`
		LastUpdatedTime           string   `json:"lastUpdatedTime"`
	}
	metric struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

func body(p Progress, now time.Time) ([]byte, error) {
	s := status{LastUpdatedTime: now.UTC().Format(time.RFC3339)}
	if p.Steps > 0 {
		s.ProgressPercentage = int32(max(0, min(100, p.Step*100/p.Steps)))
	}
	if p.Remaining >= 0 {
		left := int32(min(p.Remaining.Seconds(), 1<<31-1))
		s.EstimatedRemainingSeconds = &left
	}
	for _, m := range p.Metrics {
		s.Metrics = append(s.Metrics, metric{m.Name, strconv.FormatFloat(m.Value, 'g', -1, 64)})
	}
	return json.Marshal(request{s})
}

// push sends once. Token and certificates are read each time: the kubelet renews them.
func (p *Pusher) push(ctx context.Context, now Progress) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err := body(now, time.Now())
	if err != nil {
		return err
	}
	token, err := os.ReadFile(p.cfg.Token)
	if err != nil {
		return fmt.Errorf("%s: %w", EnvToken, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", EnvURL, err)
	}
	if r.URL.Scheme != "https" {
		return fmt.Errorf("%s is %q: the token is sent over https only", EnvURL, p.cfg.URL)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/json")
	transport := p.cfg.Transport
	if transport == nil {
		own, err := p.transport()
		if err != nil {
			return err
		}
		defer own.CloseIdleConnections()
		transport = own
	}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token is for this server alone
	}}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 512))
	if answer.StatusCode/100 == 2 {
		return nil
	}
	refused := &refusal{code: answer.StatusCode, text: strings.Join(strings.Fields(string(said)), " ")}
	if s, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && s > 0 && s < 1<<20 {
		refused.after = time.Duration(s) * time.Second
	}
	return refused
}

func (p *Pusher) transport() (*http.Transport, error) {
	ca, err := os.ReadFile(p.cfg.CACert)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvCACert, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: %s has no certificate", EnvCACert, p.cfg.CACert)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, nil
}
