package trainjob

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Without the controller's variables there is nothing to push to.
func TestFromEnvironment(t *testing.T) {
	all := map[string]string{EnvURL: "https://trainer", EnvCACert: "/ca", EnvToken: "/token"}
	c, ok := FromEnvironment(func(k string) string { return all[k] })
	require.True(t, ok)
	require.Equal(t, "/token", c.Token)
	delete(all, EnvToken)
	_, ok = FromEnvironment(func(k string) string { return all[k] })
	require.False(t, ok)
}

// The body is what Kubeflow Trainer 2.2 decodes and its CRD admits.
func TestBody(t *testing.T) {
	at := time.Date(2026, 11, 28, 7, 0, 0, 5, time.FixedZone("", 3600))
	text, err := body(Progress{Step: 199, Steps: 200, Remaining: 90 * time.Second, Metrics: []Metric{{"loss", 0.125}}}, at)
	require.NoError(t, err)
	require.JSONEq(t, `{"trainerStatus": {"progressPercentage": 99, "estimatedRemainingSeconds": 90,
		"metrics": [{"name": "loss", "value": "0.125"}], "lastUpdatedTime": "2026-11-28T06:00:00Z"}}`, string(text))
	text, err = body(Progress{Step: 200, Steps: 200, Remaining: -1}, at)
	require.NoError(t, err)
	require.JSONEq(t, `{"trainerStatus": {"progressPercentage": 100, "lastUpdatedTime": "2026-11-28T06:00:00Z"}}`, string(text))
}

// The token and the certificates are those of the moment, and nobody else's certificate
// is accepted.
func TestRotation(t *testing.T) {
	var tokens []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	write := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	p := &Pusher{cfg: Config{URL: server.URL + "/status", CACert: ca, Token: token}}

	write(token, "first\n")
	require.ErrorContains(t, p.push(t.Context(), Progress{}), EnvCACert, "the file is not there yet")
	write(ca, "nothing")
	require.ErrorContains(t, p.push(t.Context(), Progress{}), "has no certificate")
	write(ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	require.NoError(t, p.push(t.Context(), Progress{}))
	write(token, "second\n")
	require.NoError(t, p.push(t.Context(), Progress{}))
	require.Equal(t, []string{"Bearer first", "Bearer second"}, tokens)

	write(ca, stranger(t))
	require.ErrorContains(t, p.push(t.Context(), Progress{}), "certificate")
	p.cfg.URL = strings.Replace(server.URL, "https", "http", 1)
	require.ErrorContains(t, p.push(t.Context(), Progress{}), "https only")
	require.Len(t, tokens, 2, "the token went to nobody else")
}

// stranger is the certificate of an authority that signed nothing here.
func stranger(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// fake answers without a network.
type fake struct {
	mu     sync.Mutex
	at     []time.Time
	bodies []string
	answer func(n int) (code int, retryAfter string, err error)
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.at, f.bodies = append(f.at, time.Now()), append(f.bodies, string(text))
	code, after, err := f.answer(len(f.at))
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader("no\nway")), Request: r}, nil
}

func (f *fake) percent(t *testing.T, n int) int32 {
	t.Helper()
	var r request
	require.NoError(t, json.Unmarshal([]byte(f.bodies[n]), &r))
	return r.TrainerStatus.ProgressPercentage
}

func pusher(t *testing.T, f *fake) *Pusher {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("x"), 0o600))
	return Start(t.Context(), Config{URL: "https://trainer/status", Token: token, Every: 15 * time.Second, Longest: 2 * time.Minute, Transport: f})
}

// Progress is sent at once, then every 15 s, the newest only; at the end once more.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(int) (int, string, error) { return 200, "", nil }}
		p := pusher(t, f)
		began := time.Now()
		for step := range int64(100) {
			p.Observe(&Progress{Step: step, Steps: 100, Remaining: -1})
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		require.Len(t, f.at, 4, "50 s")
		require.Equal(t, []time.Duration{0, 15 * time.Second, 30 * time.Second, 45 * time.Second},
			[]time.Duration{f.at[0].Sub(began), f.at[1].Sub(began), f.at[2].Sub(began), f.at[3].Sub(began)})
		require.InDelta(t, 30, f.percent(t, 1), 1, "the newest, not the first that was missed")
		p.Observe(nil) // another node leads
		time.Sleep(time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, len(f.at), 5)
		p.Close(&Progress{Step: 100, Steps: 100})
		require.EqualValues(t, 100, f.percent(t, len(f.at)-1))
	})
}

// 429 is obeyed, 5xx and a server that is away are tried less and less often; what
// happens is the newest progress when it answers again.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(n int) (int, string, error) {
			switch {
			case n == 1:
				return 429, "40", nil
			case n < 8:
				return 503, "", nil
			case n == 8:
				return 0, "", errors.New("connection refused")
			}
			return 200, "", nil
		}}
		p := pusher(t, f)
		began := time.Now()
		for step := int64(0); time.Since(began) < 8*time.Minute; step++ {
			p.Observe(&Progress{Step: step, Steps: 1000, Remaining: -1})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.Equal(t, 40*time.Second, f.at[1].Sub(f.at[0]), "Retry-After")
		for i := 2; i < 9; i++ {
			require.GreaterOrEqual(t, f.at[i].Sub(f.at[i-1]), 15*time.Second)
			require.LessOrEqual(t, f.at[i].Sub(f.at[i-1]), 2*time.Minute+time.Second)
		}
		require.Greater(t, f.at[7].Sub(f.at[6]), 40*time.Second, "it backs off")
		require.Equal(t, 15*time.Second, f.at[len(f.at)-1].Sub(f.at[len(f.at)-2]).Round(time.Second), "and comes back")
		p.Close(nil)
	})
}

// A server that never answers well does not keep a finished pod: the last word has ten
// seconds.
func TestCloseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(int) (int, string, error) { return 500, "", nil }}
		p := pusher(t, f)
		began := time.Now()
		p.Close(&Progress{Step: 1, Steps: 1})
		require.LessOrEqual(t, time.Since(began), lastWord)
		require.Greater(t, len(f.at), 2, "it was tried more than once")
	})
}
