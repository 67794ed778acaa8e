package mesh_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
)

// rotating are two endpoints whose secrets change.
type rotating struct {
	ends  [2]*mesh.Endpoint
	plan  *allreduce.Plan
	count uint64 // generations
}

func newRotating(t *testing.T, secret []byte) *rotating {
	t.Helper()
	plan, err := allreduce.NewPlan(2, 2)
	require.NoError(t, err)
	r := &rotating{plan: plan}
	for rank := range r.ends {
		r.ends[rank], err = mesh.Listen(mesh.EndpointConfig{RunID: "test", Secret: secret, Transport: mesh.TransportTCP})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.ends[rank].Close()) })
	}
	return r
}

// connect makes the next generation's groups.
func (r *rotating) connect(t *testing.T) (groups [2]allreduce.Group, errs [2]error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r.count++
	peers := []string{r.ends[0].Addr(), r.ends[1].Addr()}
	var wg sync.WaitGroup
	for rank, e := range r.ends {
		wg.Go(func() {
			groups[rank], errs[rank] = e.Connect(ctx, allreduce.GroupConfig{Generation: r.count, Rank: rank, Peers: peers, Plan: r.plan})
			if errs[rank] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return groups, errs
}

func requireSum(t *testing.T, groups []allreduce.Group) {
	t.Helper()
	sums := make([][]float32, len(groups))
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error {
		sums[g.Rank()] = make([]float32, 3)
		return g.AllReduce(t.Context(), 0, [][]float32{{1, 2, 3}}, sums[g.Rank()])
	})
	for _, s := range sums {
		require.Equal(t, []float32{2, 4, 6}, s)
	}
}

// In every phase of a rotation, and with either rank a phase ahead of the other, groups
// are formed; a group from before continues to the end. A rank that has the old secret alone
// is refused after the last phase.
func TestSecretsRotate(t *testing.T) {
	old, fresh := []byte("the secret of before"), []byte("the secret of later")
	phases := [][][]byte{{old}, {old, fresh}, {fresh, old}, {fresh}}
	for ahead := range 2 {
		r := newRotating(t, old)
		first, errs := r.connect(t)
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		for _, phase := range phases[1:] {
			for _, rank := range []int{ahead, 1 - ahead} {
				require.NoError(t, r.ends[rank].Rotate(phase))
				groups, errs := r.connect(t)
				require.NoError(t, errs[0], "rank %d is ahead", ahead)
				require.NoError(t, errs[1], "rank %d is ahead", ahead)
				requireSum(t, groups[:])
				allreducetest.AllOK(t, groups[:], func(g allreduce.Group) error { return g.Close() })
			}
		}
		requireSum(t, first[:])
		allreducetest.AllOK(t, first[:], func(g allreduce.Group) error { return g.Close() })

		require.NoError(t, r.ends[ahead].Rotate([][]byte{old}))
		_, errs = r.connect(t)
		require.ErrorIs(t, errs[1], allreduce.ErrRefused, "rank 1 dials")
		require.ErrorContains(t, errs[1], "does not know this run's secret")
		require.Error(t, errs[0])
	}
}

func TestRotateRefusals(t *testing.T) {
	r := newRotating(t, []byte("the secret of before"))
	require.ErrorContains(t, r.ends[0].Rotate([][]byte{[]byte("short")}), "at least 16")
	require.Error(t, r.ends[0].Rotate(nil))
	open, err := mesh.Listen(mesh.EndpointConfig{RunID: "test"})
	require.NoError(t, err)
	require.Error(t, open.Rotate([][]byte{[]byte("the secret of before")}))
	require.NoError(t, open.Close())
}

// A connection that waits for its generation was let in by a secret. When that is no
// longer accepted, the connection is closed: it would be a way in for who has the old one.
func TestParkedConnectionsEndWithTheirSecret(t *testing.T) {
	old, fresh := []byte("the secret of before"), []byte("the secret of later")
	r := newRotating(t, old)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peers := []string{r.ends[0].Addr(), r.ends[1].Addr()}
	dialled := make(chan error, 1)
	go func() {
		_, err := r.ends[1].Connect(ctx, allreduce.GroupConfig{Generation: 1, Rank: 1, Peers: peers, Plan: r.plan})
		dialled <- err
	}()
	require.Eventually(t, func() bool { return mesh.Parked(r.ends[0]) == 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, r.ends[0].Rotate([][]byte{fresh, old}))
	require.Equal(t, 1, mesh.Parked(r.ends[0]), "it is accepted still")
	require.NoError(t, r.ends[0].Rotate([][]byte{fresh}))
	require.ErrorIs(t, <-dialled, allreduce.ErrRefused, "it has dialled again, with the old secret")
	require.Zero(t, mesh.Parked(r.ends[0]))
}
