package mesh_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// Staged groups work over connections as they do over local groups.
func TestStagedOverConnections(t *testing.T) {
	allreducetest.RunDevice(t, allreducetest.Options{}, []int{1, 2, 3, 5}, func(tb testing.TB, plan *allreduce.Plan) (ranks []allreducetest.DeviceRank) {
		tb.Helper()
		for _, g := range tcp(allreduce.OrderRing, mesh.TransportTCP)(tb, plan) {
			be := cpu.New(cpu.Config{Threads: 1})
			tb.Cleanup(func() { require.NoError(tb, be.Close()) })
			ranks = append(ranks, allreducetest.DeviceRank{DeviceGroup: allreduce.Staged(g, be), Backend: be})
		}
		return ranks
	})
}
