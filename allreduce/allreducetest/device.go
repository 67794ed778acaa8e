package allreducetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/tensor"
)

// DeviceRank is a rank's group and the backend whose memory it works on.
type DeviceRank struct {
	allreduce.DeviceGroup
	Backend tensor.Backend
}

// DeviceFactory returns the device groups of all ranks of a plan, by rank. The
// suite closes them.
type DeviceFactory func(t testing.TB, plan *allreduce.Plan) []DeviceRank

// RunDevice checks the device operations of an implementation of
// allreduce.DeviceGroup. worlds are the world sizes to try.
func RunDevice(t *testing.T, o Options, worlds []int, factory DeviceFactory) {
	t.Helper()
	if o.Sizes == nil {
		o.Sizes = []int{1, 17, 1000, 15_000}
	}
	t.Run("AllReduce", func(t *testing.T) { testDeviceAllReduce(t, o, worlds, factory) })
	t.Run("Broadcast", func(t *testing.T) { testDeviceBroadcast(t, o, worlds, factory) })
	t.Run("Cancel", func(t *testing.T) { testDeviceCancel(t, factory) })
	t.Run("AbortByPeer", func(t *testing.T) { testDeviceAbort(t, factory) })
}

func startDevices(t *testing.T, factory DeviceFactory, chunks, world int) []allreduce.Group {
	t.Helper()
	ranks := factory(t, Plan(t, chunks, world))
	require.Len(t, ranks, world)
	groups := make([]allreduce.Group, world)
	for i, r := range ranks {
		groups[i] = r
	}
	t.Cleanup(func() { closeAll(t, groups) })
	return groups
}

// rankOf undoes startDevices.
func rankOf(g allreduce.Group) DeviceRank {
	return g.(DeviceRank) //nolint:forcetypeassert // startDevices put it there
}

// several vectors are under way at once, as a step's buckets are; the bits are
// those of the canonical tree where the implementation promises them.
func testDeviceAllReduce(t *testing.T, o Options, worlds []int, factory DeviceFactory) {
	t.Helper()
	for _, world := range worlds {
		for _, chunks := range []int{1, 8, 13} {
			plan := Plan(t, chunks, world)
			groups := startDevices(t, factory, chunks, world)
			var grads [][][]float32
			for _, n := range o.Sizes {
				grads = append(grads, Gradients(n, chunks, n))
			}
			sums := make([][][]float32, world) // by rank and vector
			AllOK(t, groups, func(g allreduce.Group) (err error) {
				sums[g.Rank()], err = reduceOnDevice(rankOf(g), plan, grads)
				return err
			})
			for i := range o.Sizes {
				want := Sum(t, grads[i])
				for rank := range sums {
					require.NoError(t, compare(sums[rank][i], sums[0][i]), "world %d: ranks 0 and %d differ", world, rank)
				}
				if o.AnyWorld {
					require.NoError(t, compare(sums[0][i], want), "%d chunks on %d ranks differ from one rank", chunks, world)
				} else {
					require.NoError(t, near(sums[0][i], want, grads[i]))
				}
			}
		}
	}
}

// reduceOnDevice accumulates and reduces all vectors, twice: the second sum goes
// in place of the last chunk's gradient, as in training.
func reduceOnDevice(r DeviceRank, plan *allreduce.Plan, grads [][][]float32) ([][]float32, error) {
	ctx, be := context.Background(), r.Backend
	lo, hi := plan.Block(r.Rank())
	var bufs []tensor.Buffer
	for range 2 {
		bufs = nil
		for i, chunks := range grads {
			n := len(chunks[0])
			acc := allreduce.NewDeviceAccumulator(be, n)
			if err := acc.Begin(plan, r.Rank()); err != nil {
				return nil, err
			}
			grad, err := be.Alloc(tensor.F32, n)
			if err != nil {
				return nil, err
			}
			for c := lo; c < hi; c++ {
				be.Upload(grad, chunks[c])
				acc.Add(c, 0, n/2, grad) // range by range, in any order
				acc.Add(c, n/2, n, grad)
			}
			bufs = append(bufs, grad)
			if err := r.AllReduceDevice(ctx, uint32(i), acc.Parts(nil, 0, n), grad); err != nil {
				return nil, err
			}
		}
		if err := r.Wait(ctx); err != nil {
			return nil, err
		}
	}
	var out [][]float32
	for _, b := range bufs {
		host := make([]float32, b.Len())
		if err := be.Download(host, b); err != nil {
			return nil, err
		}
		out = append(out, host)
	}
	return out, nil
}

func testDeviceBroadcast(t *testing.T, o Options, worlds []int, factory DeviceFactory) {
	t.Helper()
	for _, world := range worlds {
		groups := startDevices(t, factory, 8, world)
		for _, n := range o.Sizes {
			for root := range world {
				want := Gradients(n+root, 1, n)[0]
				AllOK(t, groups, func(g allreduce.Group) error {
					r := rankOf(g)
					buf, err := r.Backend.Alloc(tensor.F32, n)
					if err != nil {
						return err
					}
					if r.Rank() == root {
						r.Backend.Upload(buf, want)
					}
					got := make([]float32, n)
					return errors.Join(
						r.BroadcastDevice(t.Context(), root, buf), r.Wait(t.Context()),
						r.Backend.Download(got, buf), compare(got, want), r.Barrier(t.Context()),
					)
				})
			}
		}
	}
}

// wanting queues an all-reduce and waits for it.
func wanting(ctx context.Context, r DeviceRank) error {
	buf, err := r.Backend.Alloc(tensor.F32, 64)
	if err != nil {
		return err
	}
	return errors.Join(r.AllReduceDevice(ctx, 3, []tensor.Buffer{buf}, buf), r.Wait(ctx))
}

// A cancelled context frees a rank whose peer does not come, and the group is no
// good any more.
func testDeviceCancel(t *testing.T, factory DeviceFactory) {
	t.Helper()
	groups := startDevices(t, factory, 3, 3)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("enough")
	go cancel(gone)
	for rank, err := range Each(t, groups[:2], func(g allreduce.Group) error { return wanting(ctx, rankOf(g)) }) {
		require.Error(t, err, "rank %d", rank)
		var failed *allreduce.Error
		require.ErrorAs(t, err, &failed)
		require.Equal(t, rank, failed.Rank)
	}
	for rank, err := range Each(t, groups, func(g allreduce.Group) error {
		// What the others gave before they were cancelled may be enough for the last
		// rank's first sum, but for no other.
		return errors.Join(wanting(context.Background(), rankOf(g)), wanting(context.Background(), rankOf(g)))
	}) {
		require.Error(t, err, "rank %d", rank)
	}
}

// Abort on one rank ends the device operations of all.
func testDeviceAbort(t *testing.T, factory DeviceFactory) {
	t.Helper()
	groups := startDevices(t, factory, 3, 3)
	cause := errors.New("generation over")
	errs := Each(t, groups, func(g allreduce.Group) error {
		if g.Rank() == 1 {
			g.Abort(cause)
			return fmt.Errorf("rank 1: %w", wanting(t.Context(), rankOf(g)))
		}
		return wanting(t.Context(), rankOf(g))
	})
	for rank, err := range errs {
		require.ErrorIs(t, err, allreduce.ErrAborted, "rank %d", rank)
	}
	require.ErrorIs(t, errs[1], cause)
}
