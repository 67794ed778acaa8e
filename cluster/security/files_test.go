package security

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// certified returns the keys of a node with certificates of an authority's directory.
func certified(t *testing.T, dir, node string) *Keys {
	t.Helper()
	k := keys(t, secret, "run", node)
	require.NoError(t, k.UseFiles(filesOf(dir, node)))
	return k
}

func filesOf(dir, node string) Files {
	return Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, node+".pem"), Key: filepath.Join(dir, node+"-key.pem")}
}

func newAuthorityOf(t *testing.T, dir string, nodes ...string) *Authority {
	t.Helper()
	a, err := NewAuthority(dir, time.Now())
	require.NoError(t, err)
	for _, n := range nodes {
		issue(t, a, n, 1, time.Now())
	}
	return a
}

func issue(t *testing.T, a *Authority, node string, days int, now time.Time) {
	t.Helper()
	_, _, err := a.Issue(node, days, now)
	require.NoError(t, err)
}

func TestCertificatesFromFiles(t *testing.T) {
	ours, theirs := t.TempDir(), t.TempDir()
	newAuthorityOf(t, ours, "a", "b")
	newAuthorityOf(t, theirs, "b")
	a, b, stranger := certified(t, ours, "a"), certified(t, ours, "b"), certified(t, theirs, "b")
	derived := keys(t, secret, "run", "b")

	serverErr, clientErr := handshake(t, a.ServerCredentials(), b.ClientCredentials().Clone())
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)
	for name, other := range map[string]*Keys{"another authority": stranger, "the secret alone": derived} {
		t.Run(name, func(t *testing.T) {
			serverErr, clientErr := handshake(t, a.ServerCredentials(), other.ClientCredentials())
			require.Error(t, serverErr)
			require.Error(t, clientErr)
			serverErr, clientErr = handshake(t, other.ServerCredentials(), a.ClientCredentials())
			require.Error(t, serverErr)
			require.ErrorIs(t, clientErr, ErrWrongSecret)
			require.ErrorContains(t, clientErr, "cluster.ca_file")
		})
	}
}

// identified serves who its caller is.
type identified struct {
	*health.Server
	who chan Identity
}

func (s identified) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	id, _ := PeerIdentity(ctx)
	s.who <- id
	return &healthpb.HealthCheckResponse{}, nil
}

func TestCertificateFileNamesItsNode(t *testing.T) {
	dir := t.TempDir()
	newAuthorityOf(t, dir, "a", "b")
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.Creds(certified(t, dir, "a").ServerCredentials()))
	who := identified{health.NewServer(), make(chan Identity, 1)}
	healthpb.RegisterHealthServer(server, who)
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(certified(t, dir, "b").ClientCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, Identity{Node: "b"}, <-who.who)
	node, err := NodeOf(filepath.Join(dir, "b.pem"))
	require.NoError(t, err)
	require.Equal(t, "b", node)
}

// A run continues while its authority is replaced: first all nodes trust both, then all have
// new certificates, then nobody trusts the old one.
func TestAuthorityIsReplacedWhileRunning(t *testing.T) {
	dir, next, late := t.TempDir(), t.TempDir(), t.TempDir()
	newAuthorityOf(t, dir, "a", "b", "late")
	newAuthorityOf(t, next, "a", "b")
	require.NoError(t, os.CopyFS(late, os.DirFS(dir)))
	a, b := certified(t, dir, "a"), certified(t, dir, "b")
	server, client := a.ServerCredentials(), b.ClientCredentials()
	copyTo := func(name string, from ...string) {
		var all []byte
		for _, f := range from {
			raw, err := os.ReadFile(filepath.Join(f, name))
			require.NoError(t, err)
			all = append(all, raw...)
		}
		mode := os.FileMode(0o600)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".tmp"), all, mode))
		later := time.Now().Add(time.Second) // the clock of files may be coarse
		require.NoError(t, os.Chtimes(filepath.Join(dir, name+".tmp"), later, later))
		require.NoError(t, os.Rename(filepath.Join(dir, name+".tmp"), filepath.Join(dir, name)))
	}
	works := func() {
		t.Helper()
		serverErr, clientErr := handshake(t, server, client)
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
	}
	works()
	old, err := a.certificate()
	require.NoError(t, err)
	copyTo("ca.pem", dir, next)
	works()
	for _, name := range []string{"a-key.pem", "a.pem", "b-key.pem", "b.pem"} {
		copyTo(name, next)
		works()
	}
	fresh, err := a.certificate()
	require.NoError(t, err)
	require.NotEqual(t, old.Certificate, fresh.Certificate)
	copyTo("ca.pem", next)
	works()
	dir = late // a node that trusts both, and whose certificate was not replaced
	copyTo("ca.pem", dir, next)
	require.NoError(t, os.Chmod(filepath.Join(dir, "late-key.pem"), 0o600))
	serverErr, _ := handshake(t, server, certified(t, dir, "late").ClientCredentials())
	require.ErrorIs(t, serverErr, ErrWrongSecret)
}

// Files that change into something unusable are said once, and those of before are used.
func TestDamagedFilesChangeNothing(t *testing.T) {
	dir := t.TempDir()
	newAuthorityOf(t, dir, "a", "b")
	var log bytes.Buffer
	f := filesOf(dir, "a")
	f.Log = slog.New(slog.NewTextHandler(&log, nil))
	a := keys(t, secret, "run", "a")
	require.NoError(t, a.UseFiles(f))
	require.NoError(t, os.WriteFile(f.Cert, []byte("half a certif"), 0o600))
	for range 3 {
		serverErr, clientErr := handshake(t, a.ServerCredentials(), certified(t, dir, "b").ClientCredentials())
		require.NoError(t, serverErr)
		require.NoError(t, clientErr)
	}
	require.Equal(t, 1, strings.Count(log.String(), "cannot be used"), log.String())
}

func TestUnusableFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	authority := newAuthorityOf(t, dir, "a", "b", "late", "open")
	newAuthorityOf(t, other, "a")
	issue(t, authority, "late", 1, time.Now().AddDate(0, 0, -5))
	require.NoError(t, os.Chmod(filepath.Join(dir, "open-key.pem"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.pem"), nil, 0o600))
	for name, c := range map[string]struct {
		node string
		edit func(*Files)
		want string
	}{
		"none":              {"a", func(f *Files) { f.Cert = filepath.Join(dir, "no.pem") }, "no such file"},
		"half given":        {"a", func(f *Files) { f.CA = "" }, "no such file"},
		"empty":             {"a", func(f *Files) { f.CA = filepath.Join(dir, "empty.pem") }, "no certificate in PEM"},
		"no PEM":            {"a", func(f *Files) { f.Cert = os.Args[0] }, "PEM"},
		"another node's":    {"b", func(f *Files) { *f = filesOf(dir, "a") }, `is of node "a", and this one is "b"`},
		"another's key":     {"a", func(f *Files) { f.Key = filepath.Join(dir, "b-key.pem") }, "private key"},
		"another authority": {"a", func(f *Files) { f.CA = filepath.Join(other, "ca.pem") }, "does not pass"},
		"no node":           {"a", func(f *Files) { *f = filesOf(dir, "ca") }, "agrdist://node/NODE"},
		"ended":             {"late", func(*Files) {}, "expired"},
		"open to all":       {"open", func(*Files) {}, "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			f := filesOf(dir, c.node)
			f.CA = filepath.Join(dir, "ca.pem")
			c.edit(&f)
			err := keys(t, secret, "run", c.node).UseFiles(f)
			require.ErrorIs(t, err, ErrCertificate)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	a := newAuthorityOf(t, dir)
	_, err := NewAuthority(dir, time.Now())
	require.ErrorIs(t, err, ErrAuthority)
	for _, bad := range []string{"", "ca", "../x", "a/b", ".hidden", "a b"} {
		_, _, err := a.Issue(bad, 1, time.Now())
		require.ErrorIs(t, err, ErrIdentity, bad)
	}
	_, _, err = a.Issue("n", 0, time.Now())
	require.ErrorIs(t, err, ErrIdentity)
	_, _, err = a.Issue("n", 365*20, time.Now())
	require.ErrorContains(t, err, "the authority itself ends")

	again, err := OpenAuthority(dir)
	require.NoError(t, err)
	issue(t, again, "n", 1, time.Now())
	require.NoError(t, keys(t, secret, "run", "n").UseFiles(filesOf(dir, "n")))
	require.NoError(t, os.Rename(filepath.Join(dir, "n-key.pem"), filepath.Join(dir, "ca-key.pem")))
	_, err = OpenAuthority(dir)
	require.ErrorContains(t, err, "is not the key")
	for _, lost := range []string{"ca-key.pem", "ca.pem"} {
		require.NoError(t, os.Remove(filepath.Join(dir, lost)))
		_, err = OpenAuthority(dir)
		require.ErrorIs(t, err, ErrAuthority)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	require.NoError(t, err)
	require.Empty(t, entries)
}
