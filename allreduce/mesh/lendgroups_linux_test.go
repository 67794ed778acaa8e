package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// shared allocates a vector that the other ranks can read.
func shared(tb testing.TB, _, n int) []float32 {
	tb.Helper()
	m, err := sharedmem.Alloc(4*n + 64)
	if err != nil {
		tb.Error(err)
		return make([]float32, n)
	}
	tb.Cleanup(m.Free)
	return m.Float32s()[7 : 7+n]
}

// The same contract where all vectors are lent, where only some are, and where
// some of the ranks talk over TCP.
func TestLendingConformance(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		allreducetest.Run(t, allreducetest.Options{AnyWorld: true, Vector: shared}, tcp(allreduce.OrderTree, mesh.TransportAuto))
	})
	var turn atomic.Int64
	some := func(tb testing.TB, rank, n int) []float32 {
		tb.Helper()
		if (int(turn.Add(1))+rank)%3 == 0 {
			return make([]float32, n)
		}
		return shared(tb, rank, n)
	}
	t.Run("some", func(t *testing.T) {
		allreducetest.Run(t, allreducetest.Options{AnyWorld: true, Vector: some}, tcp(allreduce.OrderTree, mesh.TransportAuto))
	})
	t.Run("some hosts", func(t *testing.T) {
		allreducetest.Run(t, allreducetest.Options{AnyWorld: true, Vector: some}, func(tb testing.TB, plan *allreduce.Plan) []allreduce.Group {
			tb.Helper()
			c := newCluster(tb, plan.World(), mesh.TransportAuto)
			for rank := range c.endpoints {
				if rank%3 == 1 { // it talks to nobody through memory
					c.endpoints[rank] = tcpEndpoint(tb)
					c.addrs[rank] = c.endpoints[rank].Addr()
				}
			}
			return c.connect(tb, allreduce.GroupConfig{Generation: 7, Plan: plan, SegmentElems: 512}, nil)
		})
	})
}

func tcpEndpoint(tb testing.TB) *mesh.Endpoint {
	tb.Helper()
	e, err := mesh.Listen(mesh.EndpointConfig{RunID: "test", Secret: secret, Transport: mesh.TransportTCP})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, e.Close()) })
	return e
}

// A rank that fails in the middle, and whose caller at once uses its vectors for
// something else, never spoils a sum that another rank takes for good.
func TestFailedLenderSpoilsNothing(t *testing.T) {
	const world, n, rounds = 3, 60_000, 60
	plan := allreducetest.Plan(t, world, world)
	c := newCluster(t, world, mesh.TransportAuto)
	vectors := make([][2][]float32, world)
	for rank := range vectors {
		vectors[rank] = [2][]float32{shared(t, rank, n), shared(t, rank, n)}
	}
	completed := 0
	for round := range rounds {
		groups := c.connect(t, allreduce.GroupConfig{
			Generation: uint64(round + 1), Plan: plan, SegmentElems: 256, OpTimeout: 10 * time.Second,
		}, nil)
		culprit := round % world
		var mu sync.Mutex
		errs := allreducetest.Each(t, groups, func(g allreduce.Group) error {
			part, dst := vectors[g.Rank()][0], vectors[g.Rank()][1]
			for bucket := range uint32(1000) {
				for i := range part {
					part[i] = float32(g.Rank() + 1)
				}
				err := spoiling(g, g.Rank() == culprit && bucket == 4, bucket, part, dst, time.Duration(round*7)*time.Microsecond)
				if err != nil {
					return err
				}
				for i := range dst {
					if dst[i] != world*(world+1)/2 {
						return fmt.Errorf("spoilt: element %d of bucket %d is %v", i, bucket, dst[i])
					}
				}
				mu.Lock()
				completed++
				mu.Unlock()
			}
			return nil
		})
		for rank, err := range errs {
			_ = allreducetest.Failed(t, err, rank)
		}
		allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
	}
	// The culprit completed buckets 0 to 3. Its abort may overtake the end of
	// bucket 3 at the others, but each gave its part of 3 only once it had 2.
	require.GreaterOrEqual(t, completed, rounds*(3*world+1))
}

// spoiling is AllReduce; a culprit gives up after a while, and overwrites its
// vectors as soon as it may.
func spoiling(g allreduce.Group, culprit bool, bucket uint32, part, dst []float32, after time.Duration) error {
	ctx := context.Background()
	if culprit {
		c, cancel := context.WithTimeout(ctx, after)
		defer cancel()
		ctx = c
	}
	err := g.AllReduce(ctx, bucket, [][]float32{part}, dst)
	if err == nil && culprit {
		err = errors.Join(g.AllReduce(ctx, bucket+1, [][]float32{part}, dst))
	}
	if err != nil {
		for i := range part {
			part[i], dst[i] = float32(math.NaN()), float32(math.NaN())
		}
	}
	return err
}

// Once everybody knows everybody's memory, lent vectors cost no allocation.
func TestLendingAllocatesNothing(t *testing.T) {
	const runs, n = 20, 30_000
	groups := tcp(allreduce.OrderTree, mesh.TransportAuto)(t, allreducetest.Plan(t, 2, 2))
	ctx := t.Context()
	reduce := func(g allreduce.Group, v [][]float32) {
		if err := g.AllReduce(ctx, 1, v, v[0]); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		v := [][]float32{shared(t, 1, n)}
		for range 10 + runs + 1 {
			reduce(groups[1], v)
		}
	}()
	v := [][]float32{shared(t, 0, n)}
	for range 10 {
		reduce(groups[0], v)
	}
	require.Zero(t, testing.AllocsPerRun(runs, func() { reduce(groups[0], v) }))
	<-done
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
}
