package allreducetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

// Factory returns the groups of all ranks of a plan, by rank, connected to each
// other and of the same new generation. The suite closes them.
type Factory func(t testing.TB, plan *allreduce.Plan) []allreduce.Group

// Worlds are the world sizes that the suite covers.
var Worlds = []int{1, 2, 3, 4, 5, 7}

// patience bounds what must not hang; nothing is expected to last so long.
const patience = 30 * time.Second

// Options say what of the contract an implementation keeps.
type Options struct {
	// AnyWorld: the bits of a sum are those of the canonical tree. Without it
	// (order ring) they only must be equal on all ranks and close to the sum.
	AnyWorld bool
	// Sizes are the vector lengths to try; nil is a default for
	// implementations with small segments.
	Sizes []int
	// Vector allocates a zeroed vector of n elements of a rank; nil is make.
	Vector func(tb testing.TB, rank, n int) []float32
}

// vector returns a vector of a rank with the elements of v.
func (o *Options) vector(tb testing.TB, rank int, v []float32) []float32 {
	tb.Helper()
	to := make([]float32, len(v))
	if o.Vector != nil && len(v) > 0 {
		to = o.Vector(tb, rank, len(v))
	}
	copy(to, v)
	return to
}

// Run is the conformance suite.
func Run(t *testing.T, o Options, factory Factory) {
	t.Helper()
	if o.Sizes == nil {
		o.Sizes = []int{0, 1, 17, 1000, 15_000}
	}
	t.Run("AllReduce", func(t *testing.T) { testAllReduce(t, o, factory) })
	t.Run("AllGather", func(t *testing.T) { testAllGather(t, factory) })
	t.Run("Broadcast", func(t *testing.T) { testBroadcast(t, o, factory) })
	t.Run("Barrier", func(t *testing.T) { testBarrier(t, factory) })
	t.Run("Mixed", func(t *testing.T) { testMixed(t, o, factory) })
	t.Run("Concurrent", func(t *testing.T) { testConcurrent(t, factory) })
	t.Run("Abort", func(t *testing.T) { testAbort(t, factory) })
	t.Run("AbortByPeer", func(t *testing.T) { testAbortByPeer(t, factory) })
	t.Run("Cancel", func(t *testing.T) { testCancel(t, factory) })
	t.Run("Close", func(t *testing.T) { testClose(t, factory) })
	t.Run("CloseWhilePeersWait", func(t *testing.T) { testPeerLeft(t, factory) })
	t.Run("Mismatch", func(t *testing.T) { testMismatch(t, factory) })
	t.Run("Watched", func(t *testing.T) { testWatched(t, factory) })
	t.Run("Arguments", func(t *testing.T) { testArguments(t, factory) })
}

// Plan returns a plan or fails the test.
func Plan(tb testing.TB, chunks, world int) *allreduce.Plan {
	tb.Helper()
	p, err := allreduce.NewPlan(chunks, world)
	require.NoError(tb, err)
	return p
}

// Each calls f on every group, each on its own goroutine, and returns the
// errors by rank. It fails the test where they do not all return.
func Each(tb testing.TB, groups []allreduce.Group, f func(g allreduce.Group) error) []error {
	tb.Helper()
	errs := make([]error, len(groups))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for i, g := range groups {
			wg.Go(func() { errs[i] = f(g) })
		}
		wg.Wait()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		require.Fail(tb, "an operation hangs")
	}
	return errs
}

// AllOK is Each for operations that must succeed on every rank.
func AllOK(tb testing.TB, groups []allreduce.Group, f func(g allreduce.Group) error) {
	tb.Helper()
	for rank, err := range Each(tb, groups, f) {
		require.NoError(tb, err, "rank %d", rank)
	}
}

// Gradients returns chunks random vectors of n elements whose exponents differ
// so much that another order of additions gives other bits.
func Gradients(seed, chunks, n int) [][]float32 {
	r := rand.New(rand.NewPCG(uint64(seed), 1)) //nolint:gosec // numbers for a test
	grads := make([][]float32, chunks)
	for c := range grads {
		grads[c] = make([]float32, n)
		for i := range grads[c] {
			grads[c][i] = float32((r.Float64() - 0.5) * math.Exp2(float64(r.IntN(40)-20)))
		}
	}
	return grads
}

// Sum returns the canonical sum of the chunks: what one rank alone gets.
func Sum(tb testing.TB, grads [][]float32) []float32 {
	tb.Helper()
	n := len(grads[0])
	return append([]float32(nil), accumulate(Plan(tb, len(grads), 1), 0, grads)[0][:n]...)
}

// accumulate returns the parts of a rank.
func accumulate(p *allreduce.Plan, rank int, grads [][]float32) [][]float32 {
	n := len(grads[0])
	acc := allreduce.NewAccumulator(p, rank, n)
	lo, hi := p.Block(rank)
	for c := lo; c < hi; c++ {
		acc.Add(c, 0, n, grads[c])
	}
	return acc.Parts(nil, 0, n)
}

func closeAll(tb testing.TB, groups []allreduce.Group) {
	tb.Helper()
	AllOK(tb, groups, func(g allreduce.Group) error { return g.Close() })
}

// start makes groups that are closed with the test.
func start(t *testing.T, factory Factory, chunks, world int) []allreduce.Group {
	t.Helper()
	groups := factory(t, Plan(t, chunks, world))
	require.Len(t, groups, world)
	t.Cleanup(func() { closeAll(t, groups) })
	for rank, g := range groups {
		require.Equal(t, rank, g.Rank())
		require.Equal(t, world, g.Size())
		require.Equal(t, groups[0].Generation(), g.Generation())
	}
	return groups
}

func testAllReduce(t *testing.T, o Options, factory Factory) {
	t.Helper()
	type sum struct{ grads, want [][]float32 } // by size
	known := make(map[int]sum)
	for _, world := range Worlds {
		for _, chunks := range []int{1, 8, 13} {
			if _, ok := known[chunks]; !ok {
				var s sum
				for _, n := range o.Sizes {
					grads := Gradients(n, chunks, n)
					s.grads = append(s.grads, grads...)
					s.want = append(s.want, Sum(t, grads))
				}
				known[chunks] = s
			}
			plan := Plan(t, chunks, world)
			groups := start(t, factory, chunks, world)
			for i, n := range o.Sizes {
				bucket := uint32(i)
				grads, want := known[chunks].grads[i*chunks:(i+1)*chunks], known[chunks].want[i]
				results := make([][]float32, world)
				AllOK(t, groups, func(g allreduce.Group) (err error) {
					results[g.Rank()], err = reduceTwice(t, o, g, bucket, accumulate(plan, g.Rank(), grads), n)
					return err
				})
				for rank := range results {
					require.NoError(t, compare(results[rank], results[0]), "world %d: ranks 0 and %d differ", world, rank)
				}
				if o.AnyWorld {
					require.NoError(t, compare(results[0], want), "%d chunks on %d ranks differ from one rank", chunks, world)
				} else {
					require.NoError(t, near(results[0], want, grads))
				}
			}
		}
	}
}

// reduceTwice reduces into fresh memory, then once more there (by now the ranks
// may know each other's memory), then in place of one of the parts, and compares.
func reduceTwice(tb testing.TB, o Options, g allreduce.Group, bucket uint32, parts [][]float32, n int) ([]float32, error) {
	tb.Helper()
	work := make([][]float32, len(parts))
	for i := range parts {
		work[i] = o.vector(tb, g.Rank(), parts[i])
	}
	first := o.vector(tb, g.Rank(), make([]float32, n))
	if err := g.AllReduce(context.Background(), bucket, work, first); err != nil {
		return nil, err
	}
	dst := append([]float32(nil), first...)
	clear(first)
	if err := g.AllReduce(context.Background(), bucket, work, first); err != nil {
		return nil, err
	}
	if err := compare(first, dst); err != nil {
		return nil, fmt.Errorf("once more: %w", err)
	}
	for i := range parts {
		if err := compare(work[i], parts[i]); err != nil {
			return nil, fmt.Errorf("a part was changed: %w", err)
		}
	}
	again := first
	if len(work) > 0 {
		again = work[g.Rank()%len(work)]
	}
	if err := g.AllReduce(context.Background(), bucket+100, work, again); err != nil {
		return nil, err
	}
	if err := compare(again, dst); err != nil {
		return nil, fmt.Errorf("in place: %w", err)
	}
	return dst, nil
}

// compare compares bits.
func compare(got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d elements, want %d", len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			return fmt.Errorf("element %d is %v, want %v", i, got[i], want[i])
		}
	}
	return nil
}

// near compares up to the rounding of another order of additions.
func near(got, want []float32, grads [][]float32) error {
	for i := range want {
		var scale float64
		for _, g := range grads {
			scale += math.Abs(float64(g[i]))
		}
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= 1e-6*scale) {
			return fmt.Errorf("element %d is %v, want %v", i, got[i], want[i])
		}
	}
	return nil
}
