//go:build unix

package mesh_test

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

// BenchmarkSecurity measures what the protection of frames costs: sums of 143 MB between
// two ranks over TCP on this machine, one of each level after the other, so that a busy
// machine hurts all alike. It reports each level's processor time and time against those of
// none, as the median over the rounds.
//
//	go test -run '^$' -bench Security -benchtime 50x ./allreduce/mesh
func BenchmarkSecurity(b *testing.B) {
	plan, err := allreduce.NewPlan(2, 2)
	require.NoError(b, err)
	levels := []mesh.Security{mesh.SecurityNone, mesh.SecurityMAC, mesh.SecurityAEAD}
	grads := [2][]float32{make([]float32, 35_746_307), make([]float32, 35_746_307)}
	var sums []func()
	for _, level := range levels {
		c := newClusterOf(b, 2, mesh.EndpointConfig{Transport: mesh.TransportTCP, Security: level})
		groups := c.connect(b, allreduce.GroupConfig{Generation: 1, Plan: plan}, nil)
		defer allreducetest.AllOK(b, groups, func(g allreduce.Group) error { return g.Close() })
		sums = append(sums, func() {
			allreducetest.AllOK(b, groups, func(g allreduce.Group) error {
				v := grads[g.Rank()]
				return g.AllReduce(b.Context(), 0, [][]float32{v}, v)
			})
		})
	}
	cost := func(sum func()) (processor, wall float64) {
		before, start := processorTime(b), time.Now()
		sum()
		return (processorTime(b) - before).Seconds(), time.Since(start).Seconds()
	}
	for _, sum := range sums {
		sum() // buffers grow once
	}
	processor, wall := make([][]float64, len(levels)), make([][]float64, len(levels))
	for round := 0; b.Loop(); round++ {
		var p, w [3]float64
		for i := range sums {
			k := (i + round) % len(sums) // nobody is always the first
			p[k], w[k] = cost(sums[k])
		}
		for k := range sums {
			processor[k], wall[k] = append(processor[k], p[k]/p[0]), append(wall[k], w[k]/w[0])
		}
	}
	for k, level := range levels[1:] {
		b.ReportMetric(middle(processor[k+1]), level.String()+"/none-cpu")
		b.ReportMetric(middle(wall[k+1]), level.String()+"/none-time")
	}
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// processorTime is what this process has used of the processors.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
