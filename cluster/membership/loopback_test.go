package membership

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster/security"
)

func key() []byte {
	k := make([]byte, 32)
	_, _ = rand.Read(k)
	return k
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// loopback starts a node on real sockets.
func loopback(t *testing.T, node string, change func(*Config)) *Membership {
	t.Helper()
	cfg := DefaultConfig()
	cfg.RunID, cfg.Node = "run", node
	change(&cfg)
	m, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	return m
}

func TestLoopbackWithAES(t *testing.T) {
	secret := key()
	a := loopback(t, "a", func(c *Config) {
		c.SecretKey = secret
		c.Meta = Meta{CoordinatorAddr: "127.0.0.1:1"}
	})
	b := loopback(t, "b", func(c *Config) {
		c.BindHost, c.SecretKey, c.Seeds = "localhost", secret, []string{a.Addr()}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	addr, err := b.FindCoordinator(ctx)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", addr)
	require.Len(t, b.Members(), 2)
	require.NotZero(t, b.Port())

	var refused lockedBuffer
	for name, wrong := range map[string]func(*Config){
		"another key": func(c *Config) { c.SecretKey = key() },
		"no key":      func(c *Config) { c.SecretKey = nil },
		"another run": func(c *Config) { c.RunID = "other" },
	} {
		c := loopback(t, "c", func(c *Config) {
			c.SecretKey, c.Seeds = secret, []string{a.Addr()}
			wrong(c)
			c.Logger = slog.New(slog.NewTextHandler(&refused, nil))
		})
		require.Eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.seeds[a.Addr()] != nil
		}, 20*time.Second, 5*time.Millisecond, name)
		require.Len(t, a.Members(), 2, name)
		require.Len(t, c.Members(), 1, name)
		brief, stop := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := c.FindCoordinator(brief)
		stop()
		require.ErrorContains(t, err, "secret", name)
		t.Log(name, err)
	}
	require.NoError(t, b.Leave(5*time.Second))
	require.Eventually(t, func() bool { return len(a.Members()) == 1 }, 20*time.Second, 5*time.Millisecond)
}

func TestStartRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	base := DefaultConfig()
	base.RunID, base.Node = "run", "node"

	cfg := base
	cfg.BindPort = taken.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), cfg)
	require.ErrorIs(t, err, ErrBind)
	require.ErrorContains(t, err, taken.Addr().String()+" is in use by another process")

	cfg = base
	cfg.BindHost = "0.0.0.0"
	_, err = Start(t.Context(), cfg)
	require.ErrorIs(t, err, security.ErrSecretRequired)
	require.ErrorContains(t, err, "AGRDIST_CLUSTER_SECRET")

	cfg = base
	cfg.SecretKey = key()
	cfg.BindHost = "192.0.2.1" // TEST-NET: no interface has it
	_, err = Start(t.Context(), cfg)
	require.ErrorIs(t, err, ErrBind)
	require.ErrorContains(t, err, "no interface of this host has address 192.0.2.1")

	cfg.BindHost, cfg.Resolver = "unknown.example", &simResolver{}
	_, err = Start(t.Context(), cfg)
	require.ErrorIs(t, err, errNoSuchHost)
	require.ErrorContains(t, err, `look up "unknown.example"`)
}
