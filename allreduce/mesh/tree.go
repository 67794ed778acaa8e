package mesh

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
)

// treeReduce is AllReduce in OrderTree: a direct reduce-scatter and an
// all-gather, overlapped segment by segment.
//
//	rank r                               owner k of slice k
//	  subtree sums of slice k  --reduce-->  staging, a few segments deep
//	                                        all there: add in tree order into dst
//	  dst, slice k             <--gather--  send the sum to all
//
// Between ranks of one host vectors can be lent (lend.go): then the subtree sums
// need no staging, and a gather frame only says that a segment is done.
//
// It cannot deadlock: a reader stops only at a reduce frame for which staging
// has no room, that is one at least depth segments ahead of the first segment
// that is not complete. The frames of that first segment are behind no such
// frame on any connection.
type treeReduce struct {
	g       *group
	prog    *allreduce.Program
	machine *allreduce.Machine
	depth   int         // segments in staging
	staging [][]float32 // by (segment % depth) * leaves + leaf; nil for the own ones
	leaves  [][]float32 // work's view of all leaves of a segment

	parts  [][]float32
	dst    []float32
	cut    allreduce.Cut
	own    int // segments of the own slice
	summed int // of these, the ones done
	batch  int // of these, the ones that work adds now
	// missing[i] counts the subtree sums that segment i (mod depth) still waits
	// for; sent is how many come as frames, segment by segment.
	missing []int
	sent    int
	peers   []treePeer // by rank
	toCome  int        // gather frames still to come, from all peers

	refs      []ref       // where the parts and dst lie
	lent      [][]float32 // by leaf: the own slice of a subtree sum that a peer lends; nil: it is sent
	takers    int         // peers that still read dst
	withdrawn bool        // a lender has failed: nothing more can be added
}

// treePeer is what has come from a peer, and what it has been lent.
type treePeer struct {
	segment, part    int       // of its next reduce frame
	gathered, gather int       // gather frames that have come, and in all
	terms            []byte    // payload of its lend frame
	lends            bool      // it has come
	result           []float32 // its slice of its result, where it lends that
	takes            bool      // it reads dst, and has not said taken
}

// stagingLeaves bounds the memory of staging: about this many segments.
const stagingLeaves = 64

func (t *treeReduce) init(g *group, seg int) {
	t.g = g
	t.prog = g.plan.Program()
	t.machine = allreduce.NewMachine(t.prog)
	t.cut.SegmentElems, t.cut.Slices = seg, g.world
	remote := max(t.remote(), 1)
	t.depth = min(max(stagingLeaves/remote, 2), 4)
	t.leaves = make([][]float32, t.prog.Leaves())
	t.missing = make([]int, t.depth)
	t.peers = make([]treePeer, g.world)
	t.lent = make([][]float32, t.prog.Leaves())
	lo, hi := t.mine()
	t.refs = make([]ref, hi-lo+1)
}

// mine returns the registers [lo, hi) of this rank's subtrees.
func (t *treeReduce) mine() (lo, hi int) {
	return t.prog.First(t.g.rank), t.prog.First(t.g.rank + 1)
}

// remote returns the number of subtree sums that others hold.
func (t *treeReduce) remote() int {
	lo, hi := t.mine()
	return t.prog.Leaves() - (hi - lo)
}

func (t *treeReduce) prepare(parts [][]float32, dst []float32) {
	t.parts, t.dst = parts, dst
	t.cut.Elems = len(dst)
	rank := t.g.rank
	t.own, t.summed, t.toCome = t.cut.Segments(rank), 0, 0
	if t.own > 0 && t.staging == nil {
		lo, hi := t.mine()
		t.staging = make([][]float32, t.depth*t.prog.Leaves())
		for i := range t.staging {
			if leaf := i % t.prog.Leaves(); leaf < lo || leaf >= hi {
				t.staging[i] = make([]float32, t.cut.SegmentElems)
			}
		}
	}
	t.sent, t.takers, t.withdrawn = t.remote(), 0, false
	for i := range t.missing {
		t.missing[i] = t.sent
	}
	for peer := range t.peers {
		t.peers[peer] = treePeer{terms: t.peers[peer].terms}
		if peer != rank {
			t.peers[peer].gather = t.cut.Segments(peer)
			t.toCome += t.peers[peer].gather
		}
	}
}

func (t *treeReduce) start() {
	for _, l := range t.g.links {
		if l == nil || t.lend(l) {
			continue
		}
		for i := range t.cut.Segments(l.peer) {
			lo, hi := t.cut.Segment(l.peer, i)
			for part := range t.parts {
				l.push(sendItem{
					kind: frameReduce, slice: u16(l.peer), part: u16(part), segment: u32(i),
					floats: t.parts[part][lo:hi],
				})
			}
		}
	}
}

func (t *treeReduce) place(peer int, h *header) (place, bool, error) {
	p := &t.peers[peer]
	var dst []float32
	switch h.kind {
	case frameLend, frameTaken:
		return t.placeLending(peer, h)
	case frameGather:
		if p.result != nil {
			return t.placeLent(peer, h)
		}
		if int(h.slice) != peer || int(h.segment) != p.gathered || p.gathered == p.gather {
			return place{}, false, fmt.Errorf("%w: segment %d of sum %d where segment %d of %d of its own sum was due",
				allreduce.ErrFrame, h.segment, h.slice, p.gathered, p.gather)
		}
		lo, hi := t.cut.Segment(peer, p.gathered)
		dst = t.dst[lo:hi]
	default:
		base := t.prog.First(peer)
		held := t.prog.First(peer+1) - base
		if int(h.slice) != t.g.rank || held == 0 || p.segment == t.own || int(h.segment) != p.segment || int(h.part) != p.part {
			return place{}, false, fmt.Errorf("%w: part %d of segment %d for rank %d where part %d of %d of segment %d of %d was due",
				allreduce.ErrFrame, h.part, h.segment, h.slice, p.part, held, p.segment, t.own)
		}
		if p.segment >= t.summed+t.depth {
			return place{}, false, nil
		}
		lo, hi := t.cut.Segment(t.g.rank, p.segment)
		dst = t.staging[p.segment%t.depth*t.prog.Leaves()+base+p.part][:hi-lo]
	}
	if int(h.length) != len(dst)*4 {
		return place{}, false, fmt.Errorf("%w: %v frame of %d bytes where %d were due", allreduce.ErrFrame, h.kind, h.length, len(dst)*4)
	}
	return place{dst: bytesOf(dst)}, true, nil
}

func (t *treeReduce) arrived(peer int, h *header) error {
	p := &t.peers[peer]
	switch h.kind {
	case frameLend:
		return t.borrow(peer)
	case frameTaken:
		p.takes = false
		t.takers--
		return nil
	case frameGather:
		if p.result != nil {
			t.tookLent(peer, h)
			return nil
		}
		lo, hi := t.cut.Segment(peer, p.gathered)
		fromWire(t.dst[lo:hi], littleEndian)
		p.gathered++
		t.toCome--
		return nil
	default:
	}
	slot := p.segment % t.depth
	base := t.prog.First(peer)
	fromWire(t.staging[slot*t.prog.Leaves()+base+p.part], littleEndian)
	t.missing[slot]--
	p.part++
	if base+p.part == t.prog.First(peer+1) {
		p.part = 0
		p.segment++
	}
	return nil
}

func (t *treeReduce) next() (work, done bool) {
	if t.summed < t.own {
		t.batch = t.together()
		return t.missing[t.summed%t.depth] == 0 && !t.withdrawn, false
	}
	return false, t.toCome == 0 && t.takers == 0
}

// work adds a segment of the own slice, or several where all are there, and
// sends the sum to all.
func (t *treeReduce) work() {
	rank, slot := t.g.rank, t.summed%t.depth
	lo, _ := t.cut.Segment(rank, t.summed)
	_, hi := t.cut.Segment(rank, t.summed+t.batch-1)
	begin, _ := t.cut.Slice(rank)
	first, end := t.mine()
	for i := range t.leaves {
		switch {
		case i >= first && i < end:
			t.leaves[i] = t.parts[i-first][lo:hi]
		case t.lent[i] != nil:
			t.leaves[i] = t.lent[i][lo-begin : hi-begin]
		default:
			t.leaves[i] = t.staging[slot*t.prog.Leaves()+i][:hi-lo]
		}
	}
	sum := t.dst[lo:hi]
	t.machine.Reduce(sum, t.leaves)
	if !t.stillLent() {
		t.g.mu.Lock()
		t.withdrawn = true // the lender has failed; the group is about to
		t.g.mu.Unlock()
		return
	}
	it := sendItem{
		kind: frameGather, urgent: true, slice: u16(rank), segment: u32(t.summed + t.batch - 1), floats: sum,
	}
	if t.g.sums && littleEndian {
		it.crc, it.summed = checksum(bytesOf(sum)), true
	}
	t.g.mu.Lock()
	t.missing[slot] = t.sent
	t.summed += t.batch
	for _, l := range t.g.links {
		switch {
		case l == nil:
		case t.peers[l.peer].takes:
			l.push(sendItem{kind: frameGather, urgent: true, slice: it.slice, segment: it.segment})
		default:
			l.push(it)
		}
	}
	t.g.cond.Broadcast() // a slot of staging is free
	t.g.mu.Unlock()
	t.g.flush()
}

// owes: what a peer has sent may wait in the connection for room in staging, so
// only a peer that holds up the very next segment owes something of its own.
func (t *treeReduce) owes(peer int) debt {
	p := &t.peers[peer]
	behind := p.segment < t.own && t.prog.First(peer+1) > t.prog.First(peer)
	switch {
	case behind && p.segment == t.summed:
		return owesOwn
	case p.takes && t.summed == t.own:
		return owesOwn
	case behind || p.takes || p.gathered < p.gather:
		return owesRelayed
	default:
		return owesNothing
	}
}

func (t *treeReduce) release() {
	t.parts, t.dst = nil, nil
	clear(t.leaves)
	clear(t.lent)
	for peer := range t.peers {
		t.peers[peer].result = nil
	}
}
