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
	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestLocalConformance(t *testing.T) {
	allreducetest.Run(t, allreducetest.Options{AnyWorld: true}, func(_ testing.TB, plan *allreduce.Plan) []allreduce.Group {
		return allreduce.NewLocal(plan.World(), plan)
	})
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

// The package starts no goroutine that outlives its caller's call.
func TestMain(m *testing.M) { leaktest.Main(m) }
