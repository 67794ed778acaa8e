package security

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// handshake lets a client and a server shake hands over loopback and returns
// what each side says. The client also reads, as with TLS 1.3 it learns of its
// refusal only then.
func handshake(t *testing.T, server, client credentials.TransportCredentials) (serverErr, clientErr error) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = lis.Close() }()
	done := make(chan error, 1)
	go func() {
		raw, err := lis.Accept()
		if err != nil {
			done <- err
			return
		}
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		conn, _, err := server.ServerHandshake(raw)
		if err == nil {
			_, err = conn.Write([]byte("!"))
		}
		_ = raw.Close()
		done <- err
	}()
	raw, err := net.Dial("tcp", lis.Addr().String())
	require.NoError(t, err)
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	conn, _, clientErr := client.ClientHandshake(t.Context(), "ignored:1", raw)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	_ = raw.Close()
	return <-done, clientErr
}

func TestSameSecretAndRunShakeHands(t *testing.T) {
	a, b := keys(t, secret, "run", "a"), keys(t, secret, "run", "b")
	serverErr, clientErr := handshake(t, a.ServerCredentials(), b.ClientCredentials().Clone())
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)
}

func TestOthersAreRefused(t *testing.T) {
	ours := keys(t, secret, "run", "a")
	for name, c := range map[string]struct {
		peer *Keys
		want error
	}{
		"wrong secret": {keys(t, []byte("another secret altogether"), "run", "b"), ErrWrongSecret},
		"other run":    {keys(t, secret, "run2", "b"), ErrWrongRun},
	} {
		t.Run(name, func(t *testing.T) {
			serverErr, clientErr := handshake(t, ours.ServerCredentials(), c.peer.ClientCredentials())
			require.ErrorIs(t, clientErr, c.want)
			require.ErrorContains(t, clientErr, "peer 127.0.0.1:")
			require.ErrorIs(t, serverErr, ErrRefused, "the client refuses first")
			require.ErrorContains(t, serverErr, "another secret")

			serverErr, clientErr = handshake(t, c.peer.ServerCredentials(), ours.ClientCredentials())
			require.ErrorIs(t, clientErr, c.want)
			require.ErrorIs(t, serverErr, ErrRefused)
			t.Log(clientErr)
		})
	}
}

// A client that checks nothing still does not get in: the server checks as well.
func TestServerVerifiesOnItsOwn(t *testing.T) {
	ours := keys(t, secret, "run", "a")
	stranger := keys(t, []byte("another secret altogether"), "run", "b")
	other := keys(t, secret, "run2", "b")
	careless := func(k *Keys) *tls.Config {
		c := k.clientTLS()
		c.InsecureSkipVerify, c.VerifyConnection = true, nil
		return c
	}
	nobody := careless(ours)
	nobody.GetClientCertificate = nil
	old := careless(ours)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]struct {
		client *tls.Config
		want   error
	}{
		"wrong secret":   {careless(stranger), ErrWrongSecret},
		"other run":      {careless(other), ErrWrongRun},
		"no certificate": {nobody, nil},
		"TLS 1.2":        {old, nil},
	} {
		serverErr, clientErr := handshake(t, ours.ServerCredentials(), credentials.NewTLS(c.client))
		require.Error(t, clientErr, name)
		require.Error(t, serverErr, name)
		if c.want != nil {
			require.ErrorIs(t, serverErr, c.want, name)
		}
	}
	_, clientErr := handshake(t, ours.ServerCredentials(), credentials.NewTLS(careless(ours)))
	require.NoError(t, clientErr, "the careless client itself is sound")
}

func TestClocks(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) *Keys {
		k, err := derive(secret, Identity{"run", "a"}, func() time.Time { return now.Add(d) })
		require.NoError(t, err)
		return k
	}
	for _, skew := range []time.Duration{ClockSkew - time.Minute, -ClockSkew + time.Minute} {
		serverErr, clientErr := handshake(t, at(0).ServerCredentials(), at(skew).ClientCredentials())
		require.NoError(t, serverErr, skew)
		require.NoError(t, clientErr, skew)
	}
	for _, skew := range []time.Duration{ClockSkew + Lifetime + time.Minute, -ClockSkew - time.Minute} {
		_, clientErr := handshake(t, at(0).ServerCredentials(), at(skew).ClientCredentials())
		require.ErrorIs(t, clientErr, ErrClockSkew, skew)
		require.ErrorContains(t, clientErr, "set the clocks")
	}
}

// serve runs a gRPC server and returns its address.
func serve(t *testing.T, creds credentials.TransportCredentials, seen chan<- Identity) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := lis.Addr().String()
	lis, creds = Guard(lis, creds)
	srv := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			id, ok := PeerIdentity(ctx)
			if !ok {
				return nil, errors.New("no identity")
			}
			seen <- id
			return next(ctx, req)
		}))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		require.NoError(t, <-done)
	})
	return addr
}

func check(t *testing.T, addr string, creds credentials.TransportCredentials) error {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func TestGRPC(t *testing.T) {
	ours := keys(t, secret, "run", "server")
	seen := make(chan Identity, 1)
	addr := serve(t, ours.ServerCredentials(), seen)

	require.NoError(t, check(t, addr, keys(t, secret, "run", "worker-3").ClientCredentials()))
	require.Equal(t, Identity{"run", "worker-3"}, <-seen)

	err := check(t, addr, insecure.NewCredentials())
	require.Equal(t, codes.Unavailable, status.Code(err), "a plaintext client is refused")
	require.Empty(t, seen)

	// The understandable text survives gRPC's own wrapping.
	err = check(t, addr, keys(t, []byte("another secret altogether"), "run", "x").ClientCredentials())
	require.ErrorContains(t, err, "holds another secret: AGRDIST_CLUSTER_SECRET or cluster.secret_file must be the same on every node")
	require.Empty(t, seen)

	plain := serve(t, insecure.NewCredentials(), seen)
	err = check(t, plain, ours.ClientCredentials())
	require.ErrorContains(t, err, "speaks no TLS")

	_, ok := PeerIdentity(t.Context())
	require.False(t, ok)
}

// Connections that say nothing, more than there is room for, keep no member out.
func TestGuard(t *testing.T) {
	ours := keys(t, secret, "run", "server")
	seen := make(chan Identity, 1)
	addr := serve(t, ours.ServerCredentials(), seen)
	var idle []net.Conn
	for range 2 * maxStrangers {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		idle = append(idle, c)
	}
	require.NoError(t, check(t, addr, keys(t, secret, "run", "worker-3").ClientCredentials()))
	<-seen
	require.NoError(t, idle[0].SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := idle[0].Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the oldest was sent away")
}
