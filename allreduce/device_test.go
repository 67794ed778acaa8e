package allreduce_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/allreducetest"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// devices are backends that stand for devices, one a rank.
func devices(tb testing.TB, n int) []tensor.Backend {
	tb.Helper()
	out := make([]tensor.Backend, n)
	for i := range out {
		be := cpu.New(cpu.Config{Threads: 1})
		tb.Cleanup(func() { require.NoError(tb, be.Close()) })
		out[i] = be
	}
	return out
}

func TestStaged(t *testing.T) {
	over := func(factory allreducetest.Factory) allreducetest.DeviceFactory {
		return func(tb testing.TB, plan *allreduce.Plan) (ranks []allreducetest.DeviceRank) {
			tb.Helper()
			bes := devices(tb, plan.World())
			for i, g := range factory(tb, plan) {
				ranks = append(ranks, allreducetest.DeviceRank{DeviceGroup: allreduce.Staged(g, bes[i]), Backend: bes[i]})
			}
			return ranks
		}
	}
	allreducetest.RunDevice(t, allreducetest.Options{AnyWorld: true}, []int{1, 2, 3, 5},
		over(func(_ testing.TB, plan *allreduce.Plan) []allreduce.Group {
			return allreduce.NewLocal(plan.World(), plan)
		}))
}

// fullDevice has no room.
type fullDevice struct{ tensor.Backend }

var errFull = errors.New("full")

func (fullDevice) Alloc(tensor.DType, int) (tensor.Buffer, error) { return nil, errFull }
func (fullDevice) Download([]float32, tensor.Buffer) error        { return errFull }

// A device that fails is no failure of the group, and Wait says so.
func TestStagedDeviceFails(t *testing.T) {
	plan := allreducetest.Plan(t, 2, 2)
	be := devices(t, 1)[0]
	group := allreduce.Staged(allreduce.NewLocal(2, plan)[0], fullDevice{be})
	buf, err := be.Alloc(tensor.F32, 8)
	require.NoError(t, err)
	require.NoError(t, group.AllReduceDevice(t.Context(), 0, []tensor.Buffer{buf}, buf))
	require.ErrorIs(t, group.Wait(t.Context()), errFull)
	require.NoError(t, group.Wait(t.Context()), "nothing is queued any more")
	require.ErrorIs(t, allreduce.NewDeviceAccumulator(fullDevice{be}, 8).Begin(allreducetest.Plan(t, 4, 1), 0), errFull)
}

// wires are allreduce.Peers over channels: what is queued runs at once, an
// exchange's sends before its receipts.
type wires struct {
	rank  int
	links [][]chan []float32 // [from][to]
	recvs []func()
}

func newWires(world int) [][]chan []float32 {
	links := make([][]chan []float32, world)
	for i := range links {
		for range world {
			links[i] = append(links[i], make(chan []float32, 1<<10))
		}
	}
	return links
}

func (w *wires) Exchange(f func() error) error {
	w.recvs = nil
	if err := f(); err != nil {
		return err
	}
	for _, r := range w.recvs {
		r()
	}
	return nil
}

func (w *wires) Send(b tensor.Buffer, peer int) error {
	w.links[w.rank][peer] <- append([]float32(nil), b.(tensor.Host).Float32s()...)
	return nil
}

func (w *wires) Recv(b tensor.Buffer, peer int) error {
	w.recvs = append(w.recvs, func() {
		v := <-w.links[peer][w.rank]
		if copy(b.(tensor.Host).Float32s(), v) != len(v) || b.Len() != len(v) {
			panic(fmt.Sprintf("rank %d gets %d elements from rank %d, has room for %d", w.rank, len(v), peer, b.Len()))
		}
	})
	return nil
}

// The tree of sends and receipts has the bits of the group of connections, for
// vectors that grow and shrink, and for ranks without chunks.
func TestDeviceTreeHasTheBitsOfLocal(t *testing.T) {
	for world := 1; world <= 5; world++ {
		for _, chunks := range []int{1, 2, 5, 8, 13} {
			plan := allreducetest.Plan(t, chunks, world)
			bes, links := devices(t, world), newWires(world)
			groups := allreduce.NewLocal(world, plan)
			trees := make([]*allreduce.DeviceTree, world)
			for rank := range trees {
				trees[rank] = allreduce.NewDeviceTree(plan, rank, bes[rank])
			}
			for _, n := range []int{1000, 3, 16, 2000, 999} {
				grads := allreducetest.Gradients(n, chunks, n)
				want := allreducetest.Sum(t, grads)
				allreducetest.AllOK(t, groups, func(g allreduce.Group) error {
					rank := g.Rank()
					return treeOnDevice(plan, rank, bes[rank], trees[rank], &wires{rank: rank, links: links}, grads, want)
				})
			}
			for _, tree := range trees {
				tree.Free()
			}
		}
	}
}

func treeOnDevice(plan *allreduce.Plan, rank int, be tensor.Backend, tree *allreduce.DeviceTree, w *wires, grads [][]float32, want []float32) error {
	n := len(want)
	acc := allreduce.NewDeviceAccumulator(be, n)
	grad, err := be.Alloc(tensor.F32, n)
	if err := errors.Join(err, acc.Begin(plan, rank)); err != nil {
		return err
	}
	lo, hi := plan.Block(rank)
	for c := lo; c < hi; c++ {
		be.Upload(grad, grads[c])
		acc.Add(c, 0, n, grad)
	}
	if err := tree.Reduce(w, acc.Parts(nil, 0, n), grad); err != nil {
		return err
	}
	for i, v := range grad.(tensor.Host).Float32s() {
		if math.Float32bits(v) != math.Float32bits(want[i]) {
			return fmt.Errorf("world %d, %d chunks, rank %d: element %d of %d is %v, want %v", plan.World(), plan.Chunks(), rank, i, n, v, want[i])
		}
	}
	return nil
}

// What was refused by the peers is passed on, and a full device is named.
func TestDeviceTreeFailures(t *testing.T) {
	plan := allreducetest.Plan(t, 2, 2)
	be := devices(t, 1)[0]
	grad, err := be.Alloc(tensor.F32, 64)
	require.NoError(t, err)
	broken := &brokenWires{}
	parts := []tensor.Buffer{grad}
	require.ErrorIs(t, allreduce.NewDeviceTree(plan, 0, be).Reduce(broken, parts, grad), errFull)
	require.ErrorIs(t, allreduce.NewDeviceTree(plan, 0, fullDevice{be}).Reduce(broken, parts, grad), errFull)
	require.Panics(t, func() { _ = allreduce.NewDeviceTree(plan, 0, be).Reduce(broken, nil, grad) })
}

type brokenWires struct{}

func (*brokenWires) Exchange(f func() error) error { return f() }
func (*brokenWires) Send(tensor.Buffer, int) error { return errFull }
func (*brokenWires) Recv(tensor.Buffer, int) error { return errFull }
