//go:build cuda

package nccl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
)

// rigs are the devices of this process; they live as long.
var rigs struct {
	sync.Mutex
	all []*rig
}

func rigAt(tb testing.TB, ordinal int) *rig {
	tb.Helper()
	rigs.Lock()
	defer rigs.Unlock()
	for len(rigs.all) <= ordinal {
		r, err := newRig(len(rigs.all))
		require.NoError(tb, err)
		rigs.all = append(rigs.all, r)
	}
	return rigs.all[ordinal]
}

// ranks is a run whose ranks live in this process, each with a device.
type ranks struct {
	connectors []*Connector
	endpoints  []*mesh.Endpoint
	generation uint64
	order      allreduce.Order
	timeout    time.Duration
	log        *bytes.Buffer
	mu         sync.Mutex
}

func (r *ranks) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func newRanks(tb testing.TB, world int, order allreduce.Order) *ranks {
	tb.Helper()
	cudatest.Devices(tb, world)
	lib, err := Open()
	require.NoError(tb, err)
	r := &ranks{order: order, timeout: time.Minute, log: &bytes.Buffer{}}
	for i := range world {
		e, err := mesh.Listen(mesh.EndpointConfig{RunID: "test"})
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, e.Close()) })
		r.endpoints = append(r.endpoints, e)
		r.connectors = append(r.connectors, &Connector{
			Endpoint: e, Library: lib, Lane: rigAt(tb, i).lane, Logger: slog.New(slog.NewTextHandler(r, nil)),
		})
	}
	return r
}

// connect makes the groups of the next generation.
func (r *ranks) connect(tb testing.TB, plan *allreduce.Plan) []allreduce.Group {
	tb.Helper()
	var peers []string
	for _, e := range r.endpoints {
		peers = append(peers, e.Addr())
	}
	r.generation++
	groups, errs := make([]allreduce.Group, len(peers)), make([]error, len(peers))
	var wg sync.WaitGroup
	for rank := range peers {
		wg.Go(func() {
			groups[rank], errs[rank] = r.connectors[rank].Connect(tb.Context(), allreduce.GroupConfig{
				Generation: r.generation, Rank: rank, Peers: peers, Plan: plan, Order: r.order, OpTimeout: r.timeout,
			})
		})
	}
	wg.Wait()
	require.NoError(tb, errors.Join(errs...))
	return groups
}

func factory(order allreduce.Order) allreducetest.DeviceFactory {
	return func(tb testing.TB, plan *allreduce.Plan) (out []allreducetest.DeviceRank) {
		tb.Helper()
		for i, g := range newRanks(tb, plan.World(), order).connect(tb, plan) {
			device, ok := g.(allreduce.DeviceGroup)
			if plan.World() == 1 {
				device, ok = allreduce.Staged(g, rigAt(tb, 0)), true
			}
			require.True(tb, ok, "rank %d has no communicator", i)
			out = append(out, allreducetest.DeviceRank{DeviceGroup: device, Backend: rigAt(tb, i)})
		}
		return out
	}
}

func TestConformance(t *testing.T) {
	sizes := []int{1, 17, 1000, 3000}
	worlds := []int{1, 2, 3, 4, 5}
	worlds = worlds[:min(len(worlds), cudatest.Count(t))]
	t.Logf("worlds of %v ranks", worlds)
	t.Run("tree", func(t *testing.T) {
		allreducetest.RunDevice(t, allreducetest.Options{AnyWorld: true, Sizes: sizes}, worlds, factory(allreduce.OrderTree))
	})
	t.Run("ring", func(t *testing.T) {
		allreducetest.RunDevice(t, allreducetest.Options{Sizes: sizes}, worlds[min(1, len(worlds)):min(3, len(worlds))], factory(allreduce.OrderRing))
	})
}

// A group is an ordinary one as well.
func TestHostOperations(t *testing.T) {
	allreducetest.AllOK(t, newRanks(t, 2, allreduce.OrderTree).connect(t, allreducetest.Plan(t, 2, 2)), func(g allreduce.Group) error {
		require.Contains(t, g.(allreduce.DeviceGroup).Transport(), "nccl 2.")
		words, err := g.AllGather(t.Context(), []byte{byte(g.Rank())})
		if err == nil && (len(words) != 2 || words[1][0] != 1) {
			err = fmt.Errorf("words %v", words)
		}
		v := []float32{float32(g.Rank())}
		return errors.Join(err, g.AllReduce(t.Context(), 0, [][]float32{v}, v), g.Broadcast(t.Context(), 0, v), g.Barrier(t.Context()), g.Close(), g.Close())
	})
}

// reduce runs n all-reduces of 64 elements and returns the first failure.
func reduce(ctx context.Context, g allreduce.Group, be *rig, n int) error {
	buf, err := be.Alloc(tensor.F32, 64)
	if err != nil {
		return err
	}
	d := g.(allreduce.DeviceGroup)
	for i := range n {
		if err := errors.Join(d.AllReduceDevice(ctx, uint32(i), []tensor.Buffer{buf}, buf)); err != nil {
			return err
		}
		if err := d.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// failed runs reductions on all ranks that must fail on all, then closes, and checks
// that the next generation works.
func failed(t *testing.T, r *ranks, world int, want error, text string) {
	t.Helper()
	plan := allreducetest.Plan(t, world, world)
	groups := r.connect(t, plan)
	begin := time.Now()
	errs := allreducetest.Each(t, groups, func(g allreduce.Group) error { return reduce(t.Context(), g, rigAt(t, g.Rank()), 4) })
	t.Logf("all ranks were free after %v", time.Since(begin))
	for rank, err := range errs {
		var of *allreduce.Error
		require.ErrorAs(t, err, &of, "rank %d", rank)
		require.Equal(t, r.generation, of.Generation)
	}
	require.ErrorIs(t, errors.Join(errs...), want)
	require.ErrorContains(t, errors.Join(errs...), text)
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
}

// works runs a generation in which nothing happens.
func works(t *testing.T, r *ranks, world int) {
	t.Helper()
	groups := r.connect(t, allreducetest.Plan(t, world, world))
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error {
		return errors.Join(reduce(t.Context(), g, rigAt(t, g.Rank()), 3), g.Barrier(t.Context()), g.Close())
	})
}

// An asynchronous error on one rank frees all of them.
func TestAsynchronousError(t *testing.T) {
	cudatest.Doubles(t, "it makes the library report an error")
	r := newRanks(t, 3, allreduce.OrderRing)
	t.Setenv("AGRDIST_FAKE_NCCL_ERROR", "1:2")
	failed(t, r, 3, allreduce.ErrAborted, "remote process exited or there was a network error (6)")
	t.Setenv("AGRDIST_FAKE_NCCL_ERROR", "")
	works(t, r, 3)
}

// A rank whose kernel never ends is waited for no longer than the deadline.
func TestHang(t *testing.T) {
	cudatest.Doubles(t, "it makes a kernel hang")
	r := newRanks(t, 3, allreduce.OrderTree)
	r.timeout = 400 * time.Millisecond
	t.Setenv("AGRDIST_FAKE_NCCL_HANG", "2:3")
	failed(t, r, 3, allreduce.ErrTimeout, "device operations have not ended for 400ms")
	t.Setenv("AGRDIST_FAKE_NCCL_HANG", "")
	r.timeout = time.Minute
	works(t, r, 3)
}

// A new generation cancels the ranks one after the other; none is left behind.
func TestSuperseded(t *testing.T) {
	r := newRanks(t, 3, allreduce.OrderTree)
	groups := r.connect(t, allreducetest.Plan(t, 3, 3))
	cause := errors.New("generation 2 has begun")
	ctx, cancel := context.WithCancelCause(t.Context())
	for rank, err := range allreducetest.Each(t, groups, func(g allreduce.Group) error {
		if g.Rank() == 1 { // is busy elsewhere, and never comes
			cancel(cause)
			g.Abort(cause)
			return g.(allreduce.DeviceGroup).Wait(t.Context())
		}
		return reduce(ctx, g, rigAt(t, g.Rank()), 1)
	}) {
		require.Error(t, err, "rank %d", rank)
	}
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
	works(t, r, 3)
}

// Where one rank cannot have a communicator, none has, and all say why.
func TestAllOrNone(t *testing.T) {
	cudatest.Doubles(t, "it makes the library fail at its start")
	const world = 3
	for name, c := range map[string]struct {
		spoil func(*ranks)
		env   string
		want  string
	}{
		"no library": {func(r *ranks) { r.connectors[1].Library = nil }, "", "rank 1 has no NCCL"},
		"one GPU":    {func(r *ranks) { r.connectors[2].Lane = r.connectors[0].Lane }, "", "ranks 0 and 2 share a GPU (gpu 0)"},
		"init fails": {func(*ranks) {}, "1:2", "unhandled system error"},
		"not one kind": {func(r *ranks) {
			l := *r.connectors[1].Library
			l.version = 22000
			r.connectors[1].Library = &l
		}, "", "rank 1 has NCCL 2.20.0, rank 0 has 2."},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRanks(t, world, allreduce.OrderTree)
			r.timeout = 2 * time.Second // a rank whose peer gave up waits for half of it
			c.spoil(r)
			t.Setenv("AGRDIST_FAKE_NCCL_INIT", c.env)
			for rank, g := range r.connect(t, allreducetest.Plan(t, world, world)) {
				_, device := g.(allreduce.DeviceGroup)
				require.False(t, device, "rank %d", rank)
				require.NoError(t, g.Close())
			}
			require.Contains(t, r.log.String(), c.want)
			require.Equal(t, world, bytes.Count(r.log.Bytes(), []byte("gradients are copied through the host")))
		})
	}
}

// The library's own refusals end the group and are told.
func TestRefusedCall(t *testing.T) {
	cudatest.Doubles(t, "a bad address ends a device, not a call")
	r := newRanks(t, 2, allreduce.OrderRing)
	groups := r.connect(t, allreducetest.Plan(t, 2, 2))
	errs := allreducetest.Each(t, groups, func(g allreduce.Group) error {
		d := g.(allreduce.DeviceGroup)
		if g.Rank() == 0 {
			err := d.BroadcastDevice(t.Context(), 0, rigBuffer{ptr: 12, n: 3})
			return errors.Join(err, d.Wait(t.Context()))
		}
		return reduce(t.Context(), g, rigAt(t, 1), 1)
	})
	require.ErrorContains(t, errs[0], "ncclBroadcast: invalid argument")
	require.ErrorIs(t, errs[1], allreduce.ErrAborted)
	require.ErrorContains(t, errs[1], "ncclBroadcast: invalid argument", "the reason travels")
	allreducetest.AllOK(t, groups, func(g allreduce.Group) error { return g.Close() })
}
