package allreduce_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/agrdist/agrdist/allreduce"
)

// Eight chunks, summed by one rank and by three: the same bits.
func Example() {
	gradient := func(chunk int) []float32 { // of one chunk, two elements
		return []float32{1 / float32(chunk+3), 1e8 / float32(chunk*chunk+1)}
	}
	for _, world := range []int{1, 3} {
		plan, err := allreduce.NewPlan(8, world)
		if err != nil {
			panic(err)
		}
		groups := allreduce.NewLocal(world, plan)
		sums := make([][]float32, world)
		var wg sync.WaitGroup
		for rank, g := range groups {
			wg.Go(func() {
				acc := allreduce.NewAccumulator(plan, rank, 2)
				lo, hi := plan.Block(rank)
				for chunk := lo; chunk < hi; chunk++ {
					acc.Add(chunk, 0, 2, gradient(chunk))
				}
				sums[rank] = make([]float32, 2)
				if err := g.AllReduce(context.Background(), 0, acc.Parts(nil, 0, 2), sums[rank]); err != nil {
					panic(err)
				}
			})
		}
		wg.Wait()
		for rank, sum := range sums {
			fmt.Printf("%d ranks, rank %d: %x\n", world, rank, sum)
		}
	}
	// Output:
	// 1 ranks, rank 0: [0x1.6dd0dep+00 0x1.72d91ep+27]
	// 3 ranks, rank 0: [0x1.6dd0dep+00 0x1.72d91ep+27]
	// 3 ranks, rank 1: [0x1.6dd0dep+00 0x1.72d91ep+27]
	// 3 ranks, rank 2: [0x1.6dd0dep+00 0x1.72d91ep+27]
}
