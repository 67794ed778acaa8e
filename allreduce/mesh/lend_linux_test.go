package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// lenders connects two ranks.
func lenders(t *testing.T) [2]*group {
	t.Helper()
	plan, err := allreduce.NewPlan(2, 2)
	require.NoError(t, err)
	var ends [2]*Endpoint
	var peers []string
	for rank := range ends {
		ends[rank], err = Listen(EndpointConfig{RunID: "test"})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, ends[rank].Close()) })
		peers = append(peers, ends[rank].Addr())
	}
	var groups [2]*group
	both(t, func(rank int) error {
		g, err := ends[rank].Connect(t.Context(), allreduce.GroupConfig{
			Generation: 1, Rank: rank, Peers: peers, Plan: plan, SegmentElems: 1024, OpTimeout: 20 * time.Second,
		})
		if err == nil {
			groups[rank] = g.(*group)
		}
		return err
	})
	for _, g := range groups {
		t.Cleanup(func() { require.NoError(t, g.Close()) })
	}
	return groups
}

// both runs f for both ranks at once; none may fail.
func both(t *testing.T, f func(rank int) error) {
	t.Helper()
	var errs [2]error
	var wg sync.WaitGroup
	for rank := range errs {
		wg.Go(func() { errs[rank] = f(rank) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))
}

func sharedVector(t *testing.T, n int) []float32 {
	t.Helper()
	m, err := sharedmem.Alloc(4 * n)
	require.NoError(t, err)
	t.Cleanup(m.Free)
	return m.Float32s()
}

const lentElems = 40_000

// reduceOnes sums vectors of ones on both ranks and checks the sum.
func reduceOnes(t *testing.T, groups [2]*group, parts, results [2][]float32, times int) {
	t.Helper()
	both(t, func(rank int) error {
		for bucket := range uint32(times) {
			for i := range parts[rank] {
				parts[rank][i] = 1
			}
			if err := groups[rank].AllReduce(t.Context(), bucket, [][]float32{parts[rank]}, results[rank]); err != nil {
				return err
			}
			for i, v := range results[rank] {
				if v != 2 {
					return fmt.Errorf("element %d of bucket %d is %v on rank %d", i, bucket, v, rank)
				}
			}
		}
		return nil
	})
}

// written returns how many bytes a rank has put into its ring.
func written(g *group) uint64 { return g.links[1-g.rank].shm.out.written.Load() }

// What is lent does not go through the ring; each vector for itself.
func TestLendingSparesTheRing(t *testing.T) {
	const half = 4 * lentElems / 2
	for name, c := range map[string]struct {
		lendPart, lendResult bool
		least, most          uint64 // bytes of 10 operations
	}{
		"all":    {true, true, 0, 10 * 4096},
		"part":   {true, false, 10 * half, 11 * half},
		"result": {false, true, 10 * half, 11 * half},
		"none":   {false, false, 20 * half, 22 * half},
	} {
		t.Run(name, func(t *testing.T) {
			groups := lenders(t)
			var parts, results [2][]float32
			for rank := range groups {
				parts[rank], results[rank] = make([]float32, lentElems), make([]float32, lentElems)
				if c.lendPart {
					parts[rank] = sharedVector(t, lentElems)
				}
				if c.lendResult {
					results[rank] = sharedVector(t, lentElems)
				}
			}
			reduceOnes(t, groups, parts, results, 4) // until all know all blocks
			var before [2]uint64
			for rank, g := range groups {
				before[rank] = written(g)
			}
			reduceOnes(t, groups, parts, results, 10)
			for rank, g := range groups {
				bytes := written(g) - before[rank]
				require.GreaterOrEqual(t, bytes, c.least)
				require.Less(t, bytes, c.most)
			}
		})
	}
}

// A block that the peer cannot map is no failure: its vectors are sent.
func TestUnmappableBlockIsSent(t *testing.T) {
	groups := lenders(t)
	groups[0].links[1].lending.open = func(sharedmem.Ticket) (*sharedmem.View, error) { return nil, sharedmem.ErrTicket }
	parts := [2][]float32{sharedVector(t, lentElems), sharedVector(t, lentElems)}
	results := [2][]float32{sharedVector(t, lentElems), sharedVector(t, lentElems)}
	reduceOnes(t, groups, parts, results, 5)
	require.Empty(t, groups[0].links[1].lending.views)
	require.Len(t, groups[1].links[0].lending.views, 2)
	require.Greater(t, written(groups[1]), uint64(5*4*lentElems), "rank 1 sends what rank 0 cannot read")
	require.Less(t, written(groups[0]), uint64(3*4*lentElems))
}

// What was read of memory that its lender has withdrawn counts for nothing,
// neither in a sum nor as a result.
func TestWithdrawnMemoryIsNotUsed(t *testing.T) {
	for name, lend := range map[string]struct{ part, result bool }{"part": {part: true}, "result": {result: true}} {
		t.Run(name, func(t *testing.T) {
			groups := lenders(t)
			parts := [2][]float32{make([]float32, lentElems), make([]float32, lentElems)}
			results := [2][]float32{make([]float32, lentElems), make([]float32, lentElems)}
			if lend.part {
				parts[0] = sharedVector(t, lentElems)
			}
			if lend.result {
				results[0] = sharedVector(t, lentElems)
			}
			reduceOnes(t, groups, parts, results, 4)
			groups[0].links[1].shm.Withdraw() // what a failure does, before the peer hears of it

			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			both(t, func(rank int) error {
				err := groups[rank].AllReduce(ctx, 9, [][]float32{parts[rank]}, results[rank])
				if err == nil {
					return fmt.Errorf("rank %d took what was withdrawn", rank)
				}
				return nil
			})
		})
	}
}

// Frames of lending that are out of place are refused.
func TestLendingRefuses(t *testing.T) {
	groups := lenders(t)
	g := groups[0]
	tree, l := &g.tree, g.links[1]
	g.mu.Lock()
	defer g.mu.Unlock()
	tree.prepare([][]float32{make([]float32, lentElems)}, make([]float32, lentElems))

	for name, h := range map[string]header{
		"length": {kind: frameLend, length: refSize},
		"owner":  {kind: frameLend, length: 2 * refSize, slice: 1},
		"taken":  {kind: frameTaken},
		"gather": {kind: frameGather, slice: 1, segment: 3},
	} {
		_, _, err := tree.place(1, &h)
		require.ErrorIs(t, err, allreduce.ErrFrame, name)
	}
	good := header{kind: frameLend, length: 2 * refSize}
	to, ok, err := tree.place(1, &good)
	require.NoError(t, err)
	require.True(t, ok)
	ref{block: 99}.put(to.dst)
	require.ErrorIs(t, tree.arrived(1, &good), allreduce.ErrFrame, "a block that nobody offered")
	_, _, err = tree.place(1, &good)
	require.ErrorIs(t, err, allreduce.ErrFrame, "a second time")

	tree.peers[1].result = make([]float32, lentElems/2)
	for name, h := range map[string]header{
		"payload": {kind: frameGather, slice: 1, length: 4096},
		"beyond":  {kind: frameGather, slice: 1, segment: 1000},
		"slice":   {kind: frameGather, slice: 0},
	} {
		_, _, err := tree.place(1, &h)
		require.ErrorIs(t, err, allreduce.ErrFrame, name)
	}
	tree.peers[1].takes = true
	_, _, err = tree.place(1, &header{kind: frameTaken})
	require.ErrorIs(t, err, allreduce.ErrFrame, "before the sum is done")
	tree.prepare(nil, nil)

	g.mu.Unlock()
	require.ErrorIs(t, l.blockMapped(&header{kind: frameMapped, segment: 1, part: 1}), allreduce.ErrFrame)
	require.ErrorIs(t, l.mapBlock(&header{kind: frameBlock, length: 3}), allreduce.ErrFrame)
	g.mu.Lock()
}

// Whatever a lend frame says, what comes of it lies inside a block that was
// offered, or it is refused.
func FuzzLend(f *testing.F) {
	view := func() (*sharedmem.Memory, *sharedmem.View, error) {
		m, err := sharedmem.Alloc(4 * 1000)
		if err != nil {
			return nil, nil, err
		}
		v, err := sharedmem.Open(m.Ticket())
		return m, v, err
	}
	m, v, err := view()
	if err != nil {
		f.Skip(err)
	}
	defer m.Free()
	defer v.Close()
	plan, err := allreduce.NewPlan(2, 2)
	require.NoError(f, err)
	seed := make([]byte, 2*refSize)
	ref{block: 5, offset: 400}.put(seed)
	ref{block: 5}.put(seed[refSize:])
	f.Add(seed)
	f.Add(make([]byte, 2*refSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &group{world: 2, plan: plan}
		l := &link{g: g, peer: 1, shm: &shmStream{}, lending: lending{views: map[uint32]*sharedmem.View{5: v}}}
		g.links = []*link{nil, l}
		g.tree.init(g, 64)
		g.tree.prepare([][]float32{make([]float32, 900)}, make([]float32, 900))
		h := header{kind: frameLend, length: u32(len(b))}
		to, ok, err := g.tree.place(1, &h)
		if err != nil {
			require.ErrorIs(t, err, allreduce.ErrFrame)
			return
		}
		require.True(t, ok)
		copy(to.dst, b)
		if err := g.tree.arrived(1, &h); err != nil {
			require.ErrorIs(t, err, allreduce.ErrFrame)
			return
		}
		inside := func(s []float32) {
			if s == nil {
				return
			}
			all := v.Bytes()
			first, last := uintptr(unsafe.Pointer(&s[0])), uintptr(unsafe.Pointer(&s[len(s)-1]))
			require.GreaterOrEqual(t, first, uintptr(unsafe.Pointer(&all[0])))
			require.LessOrEqual(t, last, uintptr(unsafe.Pointer(&all[len(all)-4])))
		}
		inside(g.tree.lent[1])
		inside(g.tree.peers[1].result)
	})
}
