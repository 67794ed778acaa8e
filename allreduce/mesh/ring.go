package mesh

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
)

// ringReduce is AllReduce in OrderRing: rank r receives from r-1 and sends to
// r+1. In the first world-1 rounds a slice's partial sum goes round and every
// rank adds its own; in the next world-1 the finished slices go round.
//
//	round      rank r receives slice      and
//	0..w-2     r-1-round                  adds its own, passes it on
//	w-1..2w-3  r-(round-(w-1))            passes it on, but in the last round
//
// A segment is passed on as soon as it is there. dst is the work buffer.
type ringReduce struct {
	g       *group
	depth   int
	staging [][]float32

	parts [][]float32
	dst   []float32
	cut   allreduce.Cut
	in    ringCursor // of the next frame to come
	ready int        // segments in staging to be added, or in dst to be passed on
	todo  ringCursor // of the next segment to be added or passed on
}

// ringCursor is a place in the sequence of segments of a ring; count is their
// number before it.
type ringCursor struct{ round, segment, count int }

func (r *ringReduce) init(g *group, seg int) {
	r.g = g
	r.depth = 4
	r.cut.SegmentElems, r.cut.Slices = seg, g.world
}

func (r *ringReduce) prepare(parts [][]float32, dst []float32) {
	r.parts, r.dst = parts, dst
	r.cut.Elems = len(dst)
	r.in, r.todo, r.ready = ringCursor{}, ringCursor{}, 0
	r.skip(&r.in)
	r.skip(&r.todo)
	if r.staging == nil && r.g.world > 1 {
		for range r.depth {
			r.staging = append(r.staging, make([]float32, r.cut.SegmentElems))
		}
	}
	allreduce.Sum(dst, parts) // dst may be any of them
}

// rounds returns the number of rounds.
func (r *ringReduce) rounds() int { return 2 * (r.g.world - 1) }

// slice returns the slice that comes in a round.
func (r *ringReduce) slice(round int) int {
	w := r.g.world
	if round < w-1 {
		return (r.g.rank - 1 - round + 2*w) % w
	}
	return (r.g.rank - (round - (w - 1)) + 2*w) % w
}

// skip moves a cursor past rounds of empty slices.
func (r *ringReduce) skip(c *ringCursor) {
	for c.round < r.rounds() && c.segment >= r.cut.Segments(r.slice(c.round)) {
		c.round, c.segment = c.round+1, 0
	}
}

// at returns the elements of a cursor's segment.
func (r *ringReduce) at(c ringCursor) []float32 {
	lo, hi := r.cut.Segment(r.slice(c.round), c.segment)
	return r.dst[lo:hi]
}

func (r *ringReduce) adds(round int) bool { return round < r.g.world-1 }

func (r *ringReduce) prev() int { return (r.g.rank + r.g.world - 1) % r.g.world }

// pass sends a segment to the next rank.
func (r *ringReduce) pass(kind frameType, slice, segment int) {
	lo, hi := r.cut.Segment(slice, segment)
	r.g.links[(r.g.rank+1)%r.g.world].push(sendItem{
		kind: kind, slice: u16(slice), segment: u32(segment), floats: r.dst[lo:hi],
	})
}

func (r *ringReduce) start() {
	if r.g.world > 1 {
		for i := range r.cut.Segments(r.g.rank) {
			r.pass(frameReduce, r.g.rank, i)
		}
	}
}

func (r *ringReduce) place(peer int, h *header) (place, bool, error) {
	if peer != r.prev() || r.in.round == r.rounds() {
		return place{}, false, fmt.Errorf("%w: unexpected %v frame in the ring", allreduce.ErrFrame, h.kind)
	}
	kind := frameGather
	if r.adds(r.in.round) {
		kind = frameReduce
	}
	dst := r.at(r.in)
	if h.kind != kind || int(h.slice) != r.slice(r.in.round) || int(h.segment) != r.in.segment || h.part != 0 || int(h.length) != 4*len(dst) {
		return place{}, false, fmt.Errorf("%w: %v of slice %d segment %d (%d bytes) where %v of slice %d segment %d (%d bytes) was due",
			allreduce.ErrFrame, h.kind, h.slice, h.segment, h.length, kind, r.slice(r.in.round), r.in.segment, 4*len(dst))
	}
	if kind == frameGather {
		return place{dst: bytesOf(dst)}, true, nil
	}
	if r.ready == r.depth {
		return place{}, false, nil
	}
	return place{dst: bytesOf(r.staging[r.in.count%r.depth][:len(dst)])}, true, nil
}

func (r *ringReduce) arrived(_ int, _ *header) error {
	dst := r.at(r.in)
	if r.adds(r.in.round) {
		dst = r.staging[r.in.count%r.depth][:len(dst)]
	}
	fromWire(dst, littleEndian)
	r.ready++
	r.in.segment++
	r.in.count++
	r.skip(&r.in)
	return nil
}

func (r *ringReduce) next() (work, done bool) {
	return r.ready > 0, r.todo.round >= r.rounds()
}

// work adds the next segment, where it is a partial sum, and passes it on.
func (r *ringReduce) work() {
	c := r.todo
	dst := r.at(c)
	if r.adds(c.round) {
		allreduce.Add(dst, r.staging[c.count%r.depth], dst, len(dst))
	}
	r.g.mu.Lock()
	switch {
	case c.round < r.g.world-2:
		r.pass(frameReduce, r.slice(c.round), c.segment)
	case c.round < r.rounds()-1:
		r.pass(frameGather, r.slice(c.round), c.segment)
	}
	r.todo.segment++
	r.todo.count++
	r.skip(&r.todo)
	r.ready--
	r.g.cond.Broadcast()
	r.g.mu.Unlock()
	r.g.flush()
}

func (r *ringReduce) owes(peer int) debt {
	switch {
	case r.g.world == 1 || peer != r.prev() || r.in.round >= r.rounds():
		return owesNothing
	case r.in.round == 0:
		return owesOwn
	default:
		return owesRelayed
	}
}

func (r *ringReduce) release() { r.parts, r.dst = nil, nil }
