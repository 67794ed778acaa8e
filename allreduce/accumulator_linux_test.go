package allreduce_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// Partial sums of a large gradient lie where other ranks can read them, until
// Free.
func TestAccumulatorSharesItsSums(t *testing.T) {
	const n = sharedmem.Worth / 4
	grad := make([]float32, n)
	parts := func(world, n int) (*allreduce.Accumulator, []float32) {
		acc := allreduce.NewAccumulator(allreducetest.Plan(t, 4, world), 0, n)
		acc.Add(0, 0, n, grad[:n])
		acc.Add(1, 0, n, grad[:n])
		if world == 1 {
			acc.Add(2, 0, n, grad[:n])
			acc.Add(3, 0, n, grad[:n])
		}
		return acc, acc.Parts(nil, 0, n)[0]
	}
	for _, c := range []struct {
		world, n int
		shared   bool
	}{{2, n, true}, {2, n - 1, false}, {1, n, false}} {
		acc, part := parts(c.world, c.n)
		_, _, shared := sharedmem.Find(part)
		require.Equal(t, c.shared, shared, "world %d, %d elements", c.world, c.n)
		acc.Free()
		acc.Free()
		_, _, shared = sharedmem.Find(part)
		require.False(t, shared)
	}
}
