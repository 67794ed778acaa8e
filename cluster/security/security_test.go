package security

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var secret = []byte("correct horse battery staple")

func keys(t *testing.T, secret []byte, run, node string) *Keys {
	t.Helper()
	k, err := Derive(secret, Identity{RunID: run, Node: node})
	require.NoError(t, err)
	return k
}

// The derivation is a promise to other builds of the same version: all nodes of
// a run must come to the same keys.
func TestGoldenKeys(t *testing.T) {
	k := keys(t, secret, "run", "a")
	require.Equal(t, goldenGossip, hex.EncodeToString(k.GossipKeys()[0]))
	require.Equal(t, goldenData, hex.EncodeToString(k.DataKeys()[0]))
	require.Equal(t, goldenCA, hex.EncodeToString(k.all[0].ca.cert.RawSubjectPublicKeyInfo[12:]))
}

func TestKeysDependOnSecretAndRunOnly(t *testing.T) {
	a := keys(t, secret, "run", "a")
	b := keys(t, []byte("  "+string(secret)+"\n"), "run", "b") // as from a file
	require.Equal(t, a.GossipKeys()[0], b.GossipKeys()[0])
	require.Equal(t, a.DataKeys()[0], b.DataKeys()[0])
	require.Equal(t, a.all[0].ca.cert.Raw, b.all[0].ca.cert.Raw, "every process makes the same authority, byte for byte")

	run := keys(t, secret, "run2", "a")
	other := keys(t, []byte("another secret altogether"), "run", "a")
	seen := map[string]bool{}
	for _, k := range []*Keys{a, run, other} {
		for _, key := range [][]byte{k.GossipKeys()[0], k.DataKeys()[0]} {
			require.Len(t, key, KeySize)
			require.False(t, seen[string(key)], "a key occurs twice")
			seen[string(key)] = true
		}
	}
	a.GossipKeys()[0][0] ^= 1
	require.Equal(t, b.GossipKeys()[0], a.GossipKeys()[0], "callers get copies")
}

func TestKeysStayOutOfLogs(t *testing.T) {
	k := keys(t, secret, "run", "a")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, "security.Keys{run run, node a, redacted}", fmt.Sprintf(verb, k))
	}
	require.Equal(t, Identity{"run", "a"}, k.Identity())
}

func TestDeriveRefusals(t *testing.T) {
	_, err := Derive([]byte("short"), Identity{"run", "a"})
	require.ErrorIs(t, err, ErrWeakSecret)
	for _, id := range []Identity{{"", "a"}, {"run", ""}} {
		_, err = Derive(secret, id)
		require.ErrorIs(t, err, ErrIdentity)
	}
}

func TestIdentitiesSurviveTheCertificate(t *testing.T) {
	for _, id := range []Identity{{"run", "node"}, {"a/b c", "ü%2F?#"}, {"..", "."}} {
		k, err := Derive(secret, id)
		require.NoError(t, err, "%v", id)
		cert, err := k.certificate()
		require.NoError(t, err)
		got, ok := identityOf(cert.Leaf)
		require.True(t, ok)
		require.Equal(t, id, got)
	}
}

// Whatever URI a certificate carries, it names a node by text that comes back the same, or
// nobody.
func FuzzIdentityOf(f *testing.F) {
	f.Add("agrdist://run/r/n")
	f.Add("agrdist://node/n%2Fx")
	f.Add("agrdist://run//")
	f.Add("AGRDIST:///run/r/n?x#y")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		id, ok := identityOf(&x509.Certificate{URIs: []*url.URL{u}})
		if !ok {
			require.Zero(t, id)
			return
		}
		require.NotEmpty(t, id.Node)
		again := memberURI(id.Node)
		if id.RunID != "" {
			again = id.uri()
		}
		back, ok := identityOf(&x509.Certificate{URIs: []*url.URL{again}})
		require.True(t, ok)
		require.Equal(t, id, back)
	})
}

func TestParseSecret(t *testing.T) {
	got, err := ParseSecret(" 0123456789abcdef\n")
	require.NoError(t, err)
	require.Equal(t, "0123456789abcdef", string(got))
	for _, bad := range []string{"", "0123456789abcde", "                ", strings.Repeat("ab", 20)} {
		_, err := ParseSecret(bad)
		require.ErrorIs(t, err, ErrWeakSecret, "%q", bad)
	}
	a, b := GenerateSecret(), GenerateSecret()
	require.Len(t, a, 43)
	require.False(t, bytes.Equal(a, b))
	_, err = ParseSecret(string(a))
	require.NoError(t, err)
}

func TestLoadSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, append(secret, '\n'), 0o600))
	got, err := LoadSecretFile(path)
	require.NoError(t, err)
	require.Equal(t, secret, got)

	link := path + ".link" // as Kubernetes mounts a secret
	require.NoError(t, os.Symlink(path, link))
	_, err = LoadSecretFile(link)
	require.NoError(t, err)

	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = LoadSecretFile(path)
		require.ErrorIs(t, err, ErrSecretFile)
		require.ErrorContains(t, err, fmt.Sprintf("mode %#o", mode))
		require.ErrorContains(t, err, "chmod 600 "+path)
	}
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err = LoadSecretFile(path)
	require.ErrorIs(t, err, ErrWeakSecret)
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("0123456789"), 1000), 0o600))
	_, err = LoadSecretFile(path)
	require.ErrorContains(t, err, "more than 4096 bytes")
	_, err = LoadSecretFile(path + ".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, syscall.Mkfifo(path+".fifo", 0o600))
	for _, p := range []string{filepath.Dir(path), path + ".fifo"} {
		_, err = LoadSecretFile(p)
		require.ErrorContains(t, err, "not a regular file")
	}
}

func TestRequireSecretBeyondLoopback(t *testing.T) {
	for addr, loopback := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9": true, "[::1]:80": true, "::1": true, "localhost:0": true, "LOCALHOST": true,
		"[::ffff:127.0.0.1]:80": true,
		":80":                   false, "": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false,
		"example.org:80": false, "localhost.evil.org:80": false,
	} {
		err := RequireSecretBeyondLoopback(addr, nil)
		if loopback {
			require.NoError(t, err, addr)
			continue
		}
		require.ErrorIs(t, err, ErrSecretRequired, addr)
		require.ErrorContains(t, err, "AGRDIST_CLUSTER_SECRET or cluster.secret_file")
		require.NoError(t, RequireSecretBeyondLoopback(addr, secret), addr)
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k, err := derive(secret, Identity{"run", "a"}, func() time.Time { return now })
	require.NoError(t, err)
	get := func() *tls.Certificate {
		c, err := k.certificate()
		require.NoError(t, err)
		return c
	}
	first := get()
	require.Equal(t, now.Add(Lifetime+ClockSkew), first.Leaf.NotAfter)
	now = now.Add(Lifetime/2 - time.Second)
	require.Same(t, first, get())
	now = now.Add(time.Second)
	second := get()
	require.NotSame(t, first, second)
	now = now.Add(-time.Hour) // the clock was set back
	require.NotSame(t, second, get())
}
