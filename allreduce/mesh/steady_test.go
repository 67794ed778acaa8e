package mesh_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

// Once its buffers have grown, an AllReduce allocates nothing, on no rank.
func TestAllReduceAllocatesNothing(t *testing.T) {
	const runs, n = 20, 30_000
	for _, transport := range []mesh.Transport{mesh.TransportTCP, mesh.TransportAuto} {
		for _, order := range orders {
			t.Run(fmt.Sprintf("%v/%v", transport, order), func(t *testing.T) {
				groups := tcp(order, transport)(t, allreducetest.Plan(t, 2, 2))
				ctx := t.Context()
				reduce := func(g allreduce.Group, v [][]float32) {
					if err := g.AllReduce(ctx, 1, v, v[0]); err != nil {
						t.Error(err)
					}
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					v := [][]float32{make([]float32, n)}
					for range 10 + runs + 1 {
						reduce(groups[1], v)
					}
				}()
				v := [][]float32{make([]float32, n)}
				for range 10 {
					reduce(groups[0], v)
				}
				require.Zero(t, testing.AllocsPerRun(runs, func() { reduce(groups[0], v) }))
				<-done
				allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
			})
		}
	}
}
