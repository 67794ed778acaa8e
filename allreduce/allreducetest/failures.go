package allreducetest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

var errTest = errors.New("the test's own reason")

// Failed checks that an error is an *allreduce.Error of a rank, and returns it.
func Failed(tb testing.TB, err error, rank int) *allreduce.Error {
	tb.Helper()
	var e *allreduce.Error
	require.ErrorAs(tb, err, &e)
	require.Equal(tb, rank, e.Rank)
	return e
}

// testAbort: Abort releases an operation that waits on another goroutine, and
// every later one.
func testAbort(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range []int{2, 3, 7} {
		groups := start(t, factory, 8, world)
		pending := make(chan error, 2)
		go func() { pending <- groups[0].Barrier(context.Background()) }()
		go func() { pending <- groups[0].Barrier(context.Background()) }() // waits for its turn
		groups[0].Abort(errTest)
		groups[0].Abort(errors.New("a second abort changes nothing"))
		for range 2 {
			err := receive(t, pending)
			require.ErrorIs(t, err, errTest)
			require.ErrorIs(t, err, allreduce.ErrAborted)
			require.Equal(t, allreduce.NoPeer, Failed(t, err, 0).Peer)
		}
		_, err := groups[0].AllGather(context.Background(), nil)
		require.ErrorIs(t, err, errTest)
		require.ErrorIs(t, groups[0].Broadcast(context.Background(), 0, nil), errTest)
		require.ErrorIs(t, groups[0].AllReduce(context.Background(), 0, accumulate(Plan(t, 8, world), 0, Gradients(1, 8, 1)), make([]float32, 1)), errTest)
	}
}

// testAbortByPeer: an abort on one rank ends the operations of all others; they
// learn who and why.
func testAbortByPeer(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range []int{2, 3, 7} {
		groups := start(t, factory, 8, world)
		culprit := world - 1
		errs := Each(t, groups, func(g allreduce.Group) error {
			if g.Rank() == culprit {
				g.Abort(errTest)
			}
			return g.Barrier(context.Background())
		})
		for rank, err := range errs {
			e := Failed(t, err, rank)
			require.ErrorIs(t, err, allreduce.ErrAborted)
			require.ErrorContains(t, err, errTest.Error())
			if rank != culprit {
				require.Equal(t, culprit, e.Peer)
			}
		}
	}
}

// testCancel: a context ends an operation, names who was missing, and ends the
// group on all ranks.
func testCancel(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range []int{2, 3} {
		groups := start(t, factory, 8, world)
		ctx, cancel := context.WithCancelCause(context.Background())
		pending := make(chan error, 1)
		go func() { pending <- groups[0].Barrier(ctx) }()
		cancel(errTest)
		err := receive(t, pending)
		require.ErrorIs(t, err, errTest)
		_ = Failed(t, err, 0)
		for _, g := range groups[1:] {
			// Rank 0's word may have come before its abort: then the first
			// barrier may pass here, but no other.
			require.Error(t, errors.Join(g.Barrier(context.Background()), g.Barrier(context.Background())))
		}
	}
}

// testClose: ranks may close one after another while others still finish, and
// twice; later operations fail.
func testClose(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range Worlds {
		groups := start(t, factory, 8, world)
		AllOK(t, groups, func(g allreduce.Group) error {
			// The last operation's bytes must survive a Close right after it.
			buf := make([]float32, 10_000)
			return errors.Join(g.Broadcast(context.Background(), 0, buf), g.Close(), g.Close())
		})
		for rank, g := range groups {
			err := g.Barrier(context.Background())
			require.ErrorIs(t, err, allreduce.ErrClosed)
			_ = Failed(t, err, rank)
		}
	}
}

// testPeerLeft: who still needs a rank that has closed is told so.
func testPeerLeft(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range []int{2, 3, 7} {
		groups := start(t, factory, 8, world)
		leaver := world / 2
		errs := Each(t, groups, func(g allreduce.Group) error {
			if g.Rank() == leaver {
				return g.Close()
			}
			return g.Barrier(context.Background())
		})
		for rank, err := range errs {
			if rank == leaver {
				require.NoError(t, err)
				continue
			}
			require.Equal(t, leaver, Failed(t, err, rank).Peer)
		}
	}
}

// testMismatch: ranks that run different operations fail instead of mixing them
// up.
func testMismatch(t *testing.T, factory Factory) {
	t.Helper()
	plan := Plan(t, 2, 2)
	reduce := func(bucket uint32, n int) func(g allreduce.Group) error {
		return func(g allreduce.Group) error {
			return g.AllReduce(context.Background(), bucket, accumulate(plan, g.Rank(), Gradients(1, 2, n)), make([]float32, n))
		}
	}
	barrier := func(g allreduce.Group) error { return g.Barrier(context.Background()) }
	gather := func(g allreduce.Group) error {
		_, err := g.AllGather(context.Background(), nil)
		return err
	}
	for name, ops := range map[string][2]func(allreduce.Group) error{
		"bucket":    {reduce(1, 100), reduce(2, 100)},
		"size":      {reduce(1, 100), reduce(1, 101)},
		"operation": {reduce(1, 100), barrier},
		"words":     {gather, barrier},
	} {
		t.Run(name, func(t *testing.T) {
			groups := start(t, factory, 2, 2)
			errs := Each(t, groups, func(g allreduce.Group) error { return ops[g.Rank()](g) })
			mismatch := 0
			for rank, err := range errs {
				_ = Failed(t, err, rank)
				if errors.Is(err, allreduce.ErrMismatch) {
					mismatch++
				}
			}
			require.Positive(t, mismatch, "%v", errs)
		})
	}
	t.Run("root", func(t *testing.T) {
		// Two roots may both have sent before they hear of each other: the next
		// operation fails at the latest.
		groups := start(t, factory, 2, 2)
		errs := Each(t, groups, func(g allreduce.Group) error {
			if err := g.Broadcast(context.Background(), g.Rank(), make([]float32, 100)); err != nil {
				return err
			}
			return g.Barrier(context.Background())
		})
		for rank, err := range errs {
			_ = Failed(t, err, rank)
		}
	})
}

// testArguments: what is wrong on any rank is a programmer's error.
func testArguments(t *testing.T, factory Factory) {
	t.Helper()
	groups := start(t, factory, 2, 2)
	g := groups[0]
	ctx := context.Background()
	require.Panics(t, func() { _ = g.AllReduce(ctx, 0, nil, make([]float32, 1)) })
	require.Panics(t, func() { _ = g.AllReduce(ctx, 0, [][]float32{make([]float32, 2)}, make([]float32, 1)) })
	require.Panics(t, func() { _ = g.Broadcast(ctx, 2, nil) })
	require.Panics(t, func() { _, _ = g.AllGather(ctx, make([]byte, allreduce.MaxWord+1)) })
	// None of it has harmed the group.
	AllOK(t, groups, func(g allreduce.Group) error { return g.Barrier(ctx) })
}

// testWatched: a group tells of its failure while nobody asks it for anything.
func testWatched(t *testing.T, factory Factory) {
	t.Helper()
	groups := start(t, factory, 2, 2)
	w, ok := groups[0].(allreduce.Watched)
	require.True(t, ok, "%T does not implement allreduce.Watched", groups[0])
	select {
	case <-w.Dead():
		require.Fail(t, "dead at birth")
	default:
	}
	groups[1].Abort(errTest)
	<-w.Dead()
	err := w.Failure(allreduce.OpAllReduce, 7)
	require.ErrorIs(t, err, allreduce.ErrAborted)
	require.ErrorContains(t, err, "bucket 7")
	require.ErrorContains(t, err, errTest.Error())
}
