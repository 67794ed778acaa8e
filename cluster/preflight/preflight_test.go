//go:build unix

package preflight

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

type fakeNet struct {
	names  map[string][]netip.Addr
	open   map[string]bool  // addresses that answer
	errs   map[string]error // addresses that fail so; others never answer
	busy   atomic.Int32
	widest atomic.Int32
}

var errNXDomain = &net.DNSError{Err: "no such host", IsNotFound: true}

func (f *fakeNet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	ips, ok := f.names[host]
	if !ok {
		return nil, errNXDomain
	}
	return ips, nil
}

func (f *fakeNet) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	now := f.busy.Add(1)
	defer f.busy.Add(-1)
	f.widest.Store(max(f.widest.Load(), now))
	if f.open[addr] {
		near, far := net.Pipe()
		_ = far.Close()
		return near, nil
	}
	if err := f.errs[addr]; err != nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestDialAllNamesEachPeerAndTheFix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{
			names: map[string][]netip.Addr{
				"good":  {netip.MustParseAddr("10.0.0.8"), netip.MustParseAddr("10.0.0.1")}, // the first is dead
				"empty": nil,
			},
			open: map[string]bool{"10.0.0.1:1": true, "[::1]:1": true},
			errs: map[string]error{
				"10.0.0.2:1": syscall.ECONNREFUSED, "10.0.0.3:1": syscall.ENETUNREACH, "10.0.0.4:1": syscall.EMFILE,
				"10.0.0.8:1": syscall.ECONNREFUSED, "10.0.0.9:1": syscall.EPROTO,
			},
		}
		addrs := []string{
			"good:1", "[::1]:1", "unknown:1", "empty:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1", "10.0.0.9:1", "portless",
		}
		begin := time.Now()
		err := DialAll(t.Context(), addrs, DialConfig{Resolver: f, Dialer: f, Timeout: time.Second})
		require.Equal(t, time.Second, time.Since(begin), "the silent peer's timeout, others beside it")
		var got []string
		for _, p := range Problems(fmt.Errorf("wrapped: %w", err)) {
			got = append(got, p.Check+" "+p.Subject)
			require.NotEmpty(t, p.Fix)
			require.Contains(t, err.Error(), p.Error())
		}
		require.Equal(t, []string{
			"dns unknown:1", "dns empty:1", "dial 10.0.0.2:1", "dial 10.0.0.3:1", "dial 10.0.0.4:1", "dial 10.0.0.5:1", "dial 10.0.0.9:1", "dial portless",
		}, got)
		ps := Problems(err)
		for i, want := range []string{
			"publishNotReadyAddresses", "headless", "nothing listens on port 1", "cluster.advertise", "ulimit -n", "NetworkPolicy", "reachable", "HOST:PORT",
		} {
			require.Contains(t, ps[i].Fix, want)
		}
		require.ErrorIs(t, err, errNXDomain)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

func TestDialAllBoundsItsWidthAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNet{}
		var addrs []string
		for i := range 10 {
			addrs = append(addrs, fmt.Sprintf("10.0.0.%d:1", i))
		}
		begin := time.Now()
		err := DialAll(t.Context(), addrs, DialConfig{Dialer: f, Timeout: time.Second, Parallel: 3})
		require.Len(t, Problems(err), 10)
		require.Equal(t, int32(3), f.widest.Load())
		require.Equal(t, 4*time.Second, time.Since(begin))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = DialAll(ctx, addrs[:1], DialConfig{Dialer: f})
		require.ErrorIs(t, err, context.Canceled)
		require.Contains(t, Problems(err)[0].Fix, "cut short")
	})
}

func TestDialAllOnLoopback(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := lis.Addr().String()
	require.NoError(t, DialAll(t.Context(), []string{addr}, DialConfig{}))
	require.NoError(t, lis.Close())
	err = DialAll(t.Context(), []string{addr}, DialConfig{})
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, DialAll(t.Context(), nil, DialConfig{}))
}
