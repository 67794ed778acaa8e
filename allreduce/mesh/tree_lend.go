package mesh

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
)

// lend tells a peer where this rank's vectors lie, as far as it can read them
// there. It reports whether that spares the peer the reduce frames; g.mu is held.
func (t *treeReduce) lend(l *link) bool {
	reads, sums := t.cut.Segments(l.peer) > 0 && len(t.parts) > 0, t.own > 0 && len(t.dst) > 0
	if l.shm == nil || !littleEndian || 4*t.cut.Elems/t.cut.Slices < lendMin || !reads && !sums {
		return false
	}
	clear(t.refs)
	parts := reads
	if reads {
		for i, part := range t.parts {
			r, ok := l.lendable(part)
			t.refs[i] = r
			parts = parts && ok
		}
	}
	if !parts {
		clear(t.refs)
	}
	if sums {
		if r, ok := l.lendable(t.dst); ok {
			t.refs[len(t.parts)] = r
			t.peers[l.peer].takes = true
			t.takers++
		} else {
			sums = false
		}
	}
	if !parts && !sums {
		return false
	}
	b := &l.lending.frame
	if *b == nil {
		*b = make([]byte, refSize*len(t.refs))
	}
	for i, r := range t.refs {
		r.put((*b)[i*refSize:])
	}
	l.push(sendItem{kind: frameLend, urgent: true, slice: u16(l.peer), raw: *b})
	return parts
}

// placeLending is place for the frames of lending; g.mu is held.
func (t *treeReduce) placeLending(peer int, h *header) (place, bool, error) {
	p := &t.peers[peer]
	if h.kind == frameTaken {
		if !p.takes || t.summed < t.own || h.length != 0 {
			return place{}, false, fmt.Errorf("%w: %v frame for a sum that was not lent to rank %d or is not done", allreduce.ErrFrame, h.kind, peer)
		}
		return place{}, true, nil
	}
	held := t.prog.First(peer+1) - t.prog.First(peer)
	size := refSize * (held + 1)
	if t.g.links[peer].shm == nil || p.lends || p.gathered > 0 || p.segment > 0 || p.part > 0 || int(h.slice) != t.g.rank || int(h.length) != size {
		return place{}, false, fmt.Errorf("%w: unexpected %v frame of %d bytes for rank %d", allreduce.ErrFrame, h.kind, h.length, h.slice)
	}
	if len(p.terms) != size {
		p.terms = make([]byte, size)
	}
	return place{dst: p.terms}, true, nil
}

// borrow takes a peer's lend frame; g.mu is held.
func (t *treeReduce) borrow(peer int) error {
	p, l := &t.peers[peer], t.g.links[peer]
	p.lends = true
	base := t.prog.First(peer)
	held := t.prog.First(peer+1) - base
	lo, hi := t.cut.Slice(t.g.rank)
	if t.own > 0 && held > 0 && getRef(p.terms).block != 0 {
		for i := range held {
			part, err := l.borrowed(getRef(p.terms[i*refSize:]), lo, hi-lo)
			if err != nil {
				return err
			}
			t.lent[base+i] = part
		}
		p.segment = t.own // no frames will come
		t.sent -= held
		for i := range t.missing {
			t.missing[i] -= held
		}
	}
	if r := getRef(p.terms[held*refSize:]); r.block != 0 && p.gather > 0 {
		lo, hi := t.cut.Slice(peer)
		result, err := l.borrowed(r, lo, hi-lo)
		if err != nil {
			return err
		}
		p.result = result
	}
	return nil
}

// together returns how many segments are added at a time: several where none is
// waited for or sent, a quarter of the slice at most, so that the peers copy
// while this rank adds; g.mu is held.
func (t *treeReduce) together() int {
	if t.sent > 0 || t.takers < t.g.world-1 {
		return 1
	}
	n := max(min(t.own/4, lendBatch/t.cut.SegmentElems), 1)
	return min(n, t.own-t.summed)
}

// placeLent is place for a gather frame whose payload is lent; g.mu is held.
func (t *treeReduce) placeLent(peer int, h *header) (place, bool, error) {
	p := &t.peers[peer]
	if int(h.slice) != peer || int(h.segment) < p.gathered || int(h.segment) >= p.gather || h.length != 0 {
		return place{}, false, fmt.Errorf("%w: segment %d of sum %d (%d bytes) where segment %d to %d of its own sum was due, lent",
			allreduce.ErrFrame, h.segment, h.slice, h.length, p.gathered, p.gather)
	}
	first, _ := t.cut.Slice(peer)
	lo, _ := t.cut.Segment(peer, p.gathered)
	_, hi := t.cut.Segment(peer, int(h.segment))
	return place{dst: bytesOf(t.dst[lo:hi]), from: bytesOf(p.result[lo-first : hi-first])}, true, nil
}

// tookLent is arrived for such a frame; g.mu is held.
func (t *treeReduce) tookLent(peer int, h *header) {
	p := &t.peers[peer]
	t.toCome -= int(h.segment) + 1 - p.gathered
	p.gathered = int(h.segment) + 1
	if p.gathered == p.gather {
		t.g.links[peer].push(sendItem{kind: frameTaken, urgent: true, slice: u16(peer)})
	}
}

// stillLent tells whether what has been read of the peers' subtree sums was
// theirs.
func (t *treeReduce) stillLent() bool {
	for peer, l := range t.g.links {
		if l == nil || t.prog.First(peer) == t.prog.First(peer+1) {
			continue
		}
		if t.lent[t.prog.First(peer)] != nil && l.shm.Withdrawn() {
			return false
		}
	}
	return true
}
