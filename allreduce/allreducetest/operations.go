package allreducetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

// alphabet fills words.
const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

func testAllGather(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range Worlds {
		groups := start(t, factory, 8, world)
		for _, size := range []int{0, 1, 100, allreduce.MaxWord} {
			word := func(rank int) []byte {
				b := make([]byte, max(size-rank, 0)) // lengths may differ
				for i := range b {
					b[i] = alphabet[(rank*31+i)%len(alphabet)]
				}
				return b
			}
			AllOK(t, groups, func(g allreduce.Group) error {
				mine := word(g.Rank())
				words, err := g.AllGather(context.Background(), mine)
				if err != nil {
					return err
				}
				clear(mine) // the result is the caller's, not the peers'
				if len(words) != world {
					return fmt.Errorf("%d words", len(words))
				}
				for rank := range words {
					if string(words[rank]) != string(word(rank)) {
						return fmt.Errorf("rank %d got a wrong word of rank %d (%d bytes)", g.Rank(), rank, len(words[rank]))
					}
				}
				return nil
			})
		}
	}
}

func testBroadcast(t *testing.T, o Options, factory Factory) {
	t.Helper()
	for _, world := range Worlds {
		groups := start(t, factory, 8, world)
		for _, n := range o.Sizes {
			for root := range world {
				want := Gradients(n+root, 1, n)[0]
				AllOK(t, groups, func(g allreduce.Group) error {
					buf := make([]float32, n)
					if g.Rank() == root {
						copy(buf, want)
					}
					return errors.Join(g.Broadcast(context.Background(), root, buf), compare(buf, want))
				})
			}
		}
	}
}

func testBarrier(t *testing.T, factory Factory) {
	t.Helper()
	for _, world := range Worlds {
		groups := start(t, factory, 8, world)
		var mu sync.Mutex
		arrived := 0
		AllOK(t, groups, func(g allreduce.Group) error {
			mu.Lock()
			arrived++
			mu.Unlock()
			if err := g.Barrier(context.Background()); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if arrived != world {
				return fmt.Errorf("barrier passed after %d of %d ranks", arrived, world)
			}
			return nil
		})
	}
}

// testMixed runs a random sequence of operations, with ranks that leave an
// operation early being in the next one already.
func testMixed(t *testing.T, o Options, factory Factory) {
	t.Helper()
	const n = 9000
	for _, world := range Worlds {
		plan := Plan(t, 8, world)
		groups := start(t, factory, 8, world)
		grads := Gradients(9, 8, n)
		AllOK(t, groups, func(g allreduce.Group) error {
			r := rand.New(rand.NewPCG(4, 5)) //nolint:gosec // the same sequence on all ranks
			parts := accumulate(plan, g.Rank(), grads)
			for i := range parts {
				parts[i] = o.vector(t, g.Rank(), parts[i])
			}
			dst := o.vector(t, g.Rank(), make([]float32, n))
			for range 40 {
				var err error
				switch lo := r.IntN(n); r.IntN(4) {
				case 0:
					cut := make([][]float32, len(parts))
					for i := range parts {
						cut[i] = parts[i][lo:]
					}
					err = g.AllReduce(context.Background(), 4, cut, dst[lo:])
				case 1:
					err = g.Broadcast(context.Background(), r.IntN(world), dst[lo:])
				case 2:
					_, err = g.AllGather(context.Background(), make([]byte, lo))
				default:
					err = g.Barrier(context.Background())
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// testConcurrent calls operations from several goroutines: they take turns.
func testConcurrent(t *testing.T, factory Factory) {
	t.Helper()
	groups := start(t, factory, 8, 3)
	AllOK(t, groups, func(g allreduce.Group) error {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = g.Barrier(context.Background()) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

// receive returns what comes from a channel, or fails the test.
func receive[T any](tb testing.TB, c <-chan T) (v T) {
	tb.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		require.Fail(tb, "an operation hangs")
	}
	return v
}
