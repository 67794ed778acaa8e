package allreduce_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
)

// Once its buffers have grown, an AllReduce allocates nothing, on no rank.
func TestAllReduceAllocatesNothing(t *testing.T) {
	const runs, n = 20, 30_000
	for _, transport := range []allreduce.Transport{allreduce.TransportTCP, allreduce.TransportAuto} {
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

// Local groups live in virtual time: a rank that never comes is found by the
// context's deadline, and no real second passes.
func TestLocalInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := allreduce.NewLocal(3, allreducetest.Plan(t, 4, 3))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begin := time.Now()
		errs := allreducetest.Each(t, groups[:2], func(g allreduce.Group) error { return g.Barrier(ctx) })
		for rank, err := range errs {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 2, allreducetest.Failed(t, err, rank).Peer)
		}
		require.Equal(t, 20*time.Second, time.Since(begin))
	})
}

// What a failure looks like in a log: who, in what, because of whom, why.
func TestErrorText(t *testing.T) {
	err := &allreduce.Error{
		Rank: 2, Peer: 1, Op: allreduce.OpAllReduce, Generation: 7, Bucket: 3,
		Err: fmt.Errorf("waiting for it: %w", allreduce.ErrTimeout),
	}
	require.EqualError(t, err, "allreduce: generation 7 rank 2: all_reduce of bucket 3: rank 1: waiting for it: allreduce: deadline exceeded")
	err = &allreduce.Error{Rank: 0, Peer: allreduce.NoPeer, Op: allreduce.OpBarrier, Generation: 7, Err: allreduce.ErrClosed}
	require.EqualError(t, err, "allreduce: generation 7 rank 0: barrier: closed")
}
