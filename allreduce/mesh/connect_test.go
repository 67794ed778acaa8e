package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

func listen(t *testing.T, cfg mesh.EndpointConfig) *mesh.Endpoint {
	t.Helper()
	e, err := mesh.Listen(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func brief(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// pair connects two endpoints, each with its own configuration, and returns
// both results.
func pair(t *testing.T, ctx context.Context, endpoints [2]*mesh.Endpoint, change func(rank int, cfg *allreduce.GroupConfig)) (groups [2]allreduce.Group, errs [2]error) { //nolint:revive // the test comes first
	t.Helper()
	var wg sync.WaitGroup
	for rank, e := range endpoints {
		cfg := allreduce.GroupConfig{
			Generation: 5, Rank: rank, Plan: allreducetest.Plan(t, 8, 2),
			Peers: []string{endpoints[0].Addr(), endpoints[1].Addr()},
		}
		if change != nil {
			change(rank, &cfg)
		}
		wg.Go(func() { groups[rank], errs[rank] = e.Connect(ctx, cfg) })
	}
	wg.Wait()
	for _, g := range groups {
		if g != nil {
			t.Cleanup(func() { require.NoError(t, g.Close()) })
		}
	}
	return groups, errs
}

func TestListenGuardsOpenAddresses(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		_, err := mesh.Listen(mesh.EndpointConfig{Addr: addr})
		require.ErrorContains(t, err, "needs a secret", addr)
		listen(t, mesh.EndpointConfig{Addr: addr, Secret: secret})
	}
	_, err := mesh.Listen(mesh.EndpointConfig{Secret: []byte("short")})
	require.ErrorContains(t, err, "at least 16")
	_, err = mesh.Listen(mesh.EndpointConfig{RunID: string(make([]byte, 256))})
	require.ErrorContains(t, err, "at most 255")
	_, err = mesh.Listen(mesh.EndpointConfig{Addr: "127.0.0.1"})
	require.ErrorContains(t, err, `"127.0.0.1"`)
}

func TestListenExplainsAddressInUse(t *testing.T) {
	e := listen(t, mesh.EndpointConfig{})
	_, err := mesh.Listen(mesh.EndpointConfig{Addr: e.Addr()})
	require.ErrorContains(t, err, e.Addr())
	require.ErrorContains(t, err, "use port 0")
}

// Whoever does not belong is told why, at once, not by a time-out.
func TestStrangersAreRefused(t *testing.T) {
	ours := mesh.EndpointConfig{RunID: "ours", Secret: secret}
	for name, c := range map[string]struct {
		theirs mesh.EndpointConfig
		reason string
	}{
		"run":       {mesh.EndpointConfig{RunID: "theirs", Secret: secret}, `run "theirs"`},
		"secret":    {mesh.EndpointConfig{RunID: "ours", Secret: []byte("another secret text")}, "secret"},
		"no secret": {mesh.EndpointConfig{RunID: "ours"}, "asks for a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(brief(t, 20*time.Second))
			defer cancel()
			a, b := listen(t, ours), listen(t, c.theirs)
			go func() { // rank 0 waits for a rank 1 that never proves itself
				_, _ = a.Connect(ctx, allreduce.GroupConfig{
					Generation: 5, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{a.Addr(), b.Addr()},
				})
			}()
			_, err := b.Connect(ctx, allreduce.GroupConfig{
				Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{a.Addr(), b.Addr()},
			})
			require.ErrorIs(t, err, allreduce.ErrRefused)
			require.ErrorContains(t, err, c.reason)
			require.Equal(t, 0, allreducetest.Failed(t, err, 1).Peer)
			require.NoError(t, ctx.Err())
		})
	}
}

// Ranks with another view of the group both learn what differs.
func TestDisagreementIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(rank int, cfg *allreduce.GroupConfig)
		reason string
	}{
		"chunks": {func(rank int, cfg *allreduce.GroupConfig) {
			cfg.Plan = allreducetest.Plan(t, 8+rank, 2)
		}, "9 chunks"},
		"order": {func(rank int, cfg *allreduce.GroupConfig) {
			cfg.Order = allreduce.Order(rank)
		}, "order ring"},
		"segments": {func(rank int, cfg *allreduce.GroupConfig) {
			cfg.SegmentElems = 1024 << rank
		}, "2048 elements"},
	} {
		t.Run(name, func(t *testing.T) {
			e := [2]*mesh.Endpoint{listen(t, mesh.EndpointConfig{}), listen(t, mesh.EndpointConfig{})}
			_, errs := pair(t, brief(t, 20*time.Second), e, c.change)
			require.ErrorIs(t, errs[0], allreduce.ErrMismatch)
			require.Equal(t, 1, allreducetest.Failed(t, errs[0], 0).Peer)
			require.ErrorIs(t, errs[1], allreduce.ErrRefused)
			for _, err := range errs {
				require.ErrorContains(t, err, c.reason)
			}
		})
	}
}

func TestGenerationsDoNotMix(t *testing.T) {
	e := [2]*mesh.Endpoint{listen(t, mesh.EndpointConfig{}), listen(t, mesh.EndpointConfig{})}
	at := func(generation uint64) func(int, *allreduce.GroupConfig) {
		return func(_ int, cfg *allreduce.GroupConfig) { cfg.Generation = generation }
	}
	ctx := brief(t, 20*time.Second)
	old, errs := pair(t, ctx, e, at(5))
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])

	// Rank 1 hears of generation 6 first: its connection waits for rank 0.
	early := make(chan error, 1)
	var next allreduce.Group
	connect := func(rank int, generation uint64) (allreduce.Group, error) {
		return e[rank].Connect(ctx, allreduce.GroupConfig{
			Generation: generation, Rank: rank, Plan: allreducetest.Plan(t, 8, 2),
			Peers: []string{e[0].Addr(), e[1].Addr()},
		})
	}
	go func() {
		var err error
		next, err = connect(1, 6)
		early <- err
	}()
	// Meanwhile the old generation continues.
	allreducetest.AllOK(t, old[:], func(g allreduce.Group) error { return g.Barrier(ctx) })
	g, err := connect(0, 6)
	require.NoError(t, err)
	require.NoError(t, <-early)
	groups := []allreduce.Group{g, next}
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Barrier(ctx) })
	require.EqualValues(t, 6, next.Generation())
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })

	// Nobody gets back into the past, on either side.
	_, err = connect(0, 5)
	require.ErrorContains(t, err, "generation 5 is over")
	_, err = connect(0, 6)
	require.ErrorContains(t, err, "connected already")
	late := listen(t, mesh.EndpointConfig{})
	_, err = late.Connect(ctx, allreduce.GroupConfig{
		Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{e[0].Addr(), late.Addr()},
	})
	require.ErrorIs(t, err, allreduce.ErrRefused)
	require.ErrorContains(t, err, "generation 5 is over, this rank is in generation 6")
	_, err = late.Connect(ctx, allreduce.GroupConfig{
		Generation: 6, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{e[0].Addr(), late.Addr()},
	})
	require.ErrorContains(t, err, "rank 1 is already connected")
}

// A parked connection whose generation is passed over is refused.
func TestParkedConnectionGoesStale(t *testing.T) {
	e := [2]*mesh.Endpoint{listen(t, mesh.EndpointConfig{}), listen(t, mesh.EndpointConfig{})}
	parked := make(chan error, 1)
	go func() {
		_, err := e[1].Connect(brief(t, 20*time.Second), allreduce.GroupConfig{
			Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{e[0].Addr(), ""},
		})
		parked <- err
	}()
	_, err := e[0].Connect(brief(t, 200*time.Millisecond), allreduce.GroupConfig{
		Generation: 6, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{"", e[1].Addr()},
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, <-parked, "generation 5 is over")
}

// Connect waits for late ranks, and names them all when it gives up.
func TestConnectNamesTheMissing(t *testing.T) {
	e := listen(t, mesh.EndpointConfig{})
	gone := listen(t, mesh.EndpointConfig{})
	require.NoError(t, gone.Close())
	_, err := e.Connect(brief(t, 300*time.Millisecond), allreduce.GroupConfig{
		Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 4), Peers: []string{gone.Addr(), "", "", ""},
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 0, allreducetest.Failed(t, err, 1).Peer)
	for _, text := range []string{"rank 0", "rank 2", "rank 3", "refused", "not dialled"} {
		require.ErrorContains(t, err, text)
	}
}

// While a group is being connected the caller is told who is missing.
func TestMissingIsTold(t *testing.T) {
	t.Parallel()
	e := listen(t, mesh.EndpointConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	missing := make(chan int, 1)
	failed := make(chan error, 1)
	go func() {
		_, err := e.Connect(ctx, allreduce.GroupConfig{
			Generation: 5, Rank: 0, Plan: allreducetest.Plan(t, 8, 3), Peers: []string{"", "", ""},
			Missing: func(peer int) {
				select {
				case missing <- peer:
				default:
				}
			},
		})
		failed <- err
	}()
	require.Equal(t, 1, <-missing)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
}

// A failed generation may be tried again: connections of the first try that
// are still parked do not harm the second.
func TestConnectCanBeTriedAgain(t *testing.T) {
	e := [2]*mesh.Endpoint{listen(t, mesh.EndpointConfig{}), listen(t, mesh.EndpointConfig{})}
	_, err := e[1].Connect(brief(t, 300*time.Millisecond), allreduce.GroupConfig{
		Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{e[0].Addr(), ""},
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "has not joined the generation yet")
	groups, errs := pair(t, brief(t, 20*time.Second), e, nil)
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])
	allreducetest.AllOK(t, groups[:], func(g allreduce.Group) error { return g.Barrier(context.Background()) })
}

func TestConnectToSomethingElse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := other.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write(make([]byte, 1000))
		_, _ = c.Read(make([]byte, 1000))
		_ = c.Close()
	}()
	e := listen(t, mesh.EndpointConfig{})
	_, err = e.Connect(brief(t, 20*time.Second), allreduce.GroupConfig{
		Generation: 5, Rank: 1, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{other.Addr().String(), ""},
	})
	require.ErrorContains(t, err, "not an agrdist rank")
	require.NoError(t, other.Close())
	<-done
}

func TestCloseEndsConnect(t *testing.T) {
	e := listen(t, mesh.EndpointConfig{})
	done := make(chan error, 1)
	go func() {
		_, err := e.Connect(context.Background(), allreduce.GroupConfig{
			Generation: 5, Plan: allreducetest.Plan(t, 8, 2), Peers: []string{e.Addr(), ""},
		})
		done <- err
	}()
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-done, allreduce.ErrClosed)
	require.NoError(t, e.Close())
}

func TestConnectRefusesNonsense(t *testing.T) {
	e := listen(t, mesh.EndpointConfig{})
	plan := allreducetest.Plan(t, 8, 2)
	for name, cfg := range map[string]allreduce.GroupConfig{
		"no plan":  {},
		"rank":     {Plan: plan, Rank: 2, Peers: make([]string, 2)},
		"peers":    {Plan: plan, Peers: make([]string, 3)},
		"order":    {Plan: plan, Peers: make([]string, 2), Order: 9},
		"deadline": {Plan: plan, Peers: make([]string, 2), OpTimeout: -1},
		"segments": {Plan: plan, Peers: make([]string, 2), SegmentElems: 1 << 30},
	} {
		_, err := e.Connect(context.Background(), cfg)
		require.Error(t, err, name)
	}
}

// Connections that say nothing, more than an endpoint has room for, keep no member
// out, and cost little memory and no log.
func TestIdleStrangersKeepNobodyOut(t *testing.T) {
	var log lockedBuffer
	ours := mesh.EndpointConfig{RunID: "ours", Secret: secret, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	a, b := listen(t, ours), listen(t, ours)
	const strangers = 600
	for range strangers {
		c, err := net.Dial("tcp", a.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	noise := make([]byte, 200)
	for i := range strangers { // and some that say nonsense, and come again
		c, err := net.Dial("tcp", a.Addr())
		require.NoError(t, err)
		noise[0] = byte(i)
		_, _ = c.Write(noise)
		t.Cleanup(func() { _ = c.Close() })
	}
	ctx := brief(t, 8*time.Second) // less than strangers may stay, more than members need
	groups, errs := pair(t, ctx, [2]*mesh.Endpoint{a, b}, nil)
	require.NoError(t, errors.Join(errs[:]...))
	for _, g := range groups {
		require.NoError(t, g.Close())
	}
	require.LessOrEqual(t, strings.Count(log.String(), "connection refused"), 3)
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
