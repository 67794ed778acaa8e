package mesh

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
)

// chainCast is Broadcast as a chain: root sends to root+1, that one on to
// root+2 as the segments come, and so forth. Every rank sends the vector at
// most once, so the time hardly depends on the world size.
type chainCast struct {
	g    *group
	root int
	buf  []float32
	cut  allreduce.Cut // in one slice
	come int           // segments that are here
	sent int           // segments that were passed on
}

func (c *chainCast) init(g *group, seg int) {
	c.g = g
	c.cut = allreduce.Cut{Slices: 1, SegmentElems: seg}
}

func (c *chainCast) prepare(root int, buf []float32) {
	c.root, c.buf = root, buf
	c.cut.Elems = len(buf)
	c.come, c.sent = 0, 0
	if root == c.g.rank {
		c.come = c.cut.Segments(0)
	}
}

// next rank of the chain, or nil at its end.
func (c *chainCast) successor() *link {
	next := (c.g.rank + 1) % c.g.world
	if next == c.root {
		return nil
	}
	return c.g.links[next]
}

func (c *chainCast) predecessor() int { return (c.g.rank + c.g.world - 1) % c.g.world }

func (c *chainCast) start() { c.forward() }

// forward queues what has come; the mutex is held.
func (c *chainCast) forward() {
	next := c.successor()
	for ; c.sent < c.come; c.sent++ {
		if next != nil {
			lo, hi := c.cut.Segment(0, c.sent)
			next.push(sendItem{
				kind: frameBroadcast, slice: u16(c.root), segment: u32(c.sent), floats: c.buf[lo:hi],
			})
		}
	}
}

func (c *chainCast) place(peer int, h *header) (place, bool, error) {
	if peer != c.predecessor() || c.g.rank == c.root || c.come == c.cut.Segments(0) {
		return place{}, false, fmt.Errorf("%w: unexpected %v frame in the chain from rank %d", allreduce.ErrFrame, h.kind, c.root)
	}
	lo, hi := c.cut.Segment(0, c.come)
	if int(h.slice) != c.root || int(h.segment) != c.come || h.part != 0 || int(h.length) != 4*(hi-lo) {
		return place{}, false, fmt.Errorf("%w: segment %d from root %d (%d bytes) where segment %d from root %d (%d bytes) was due",
			allreduce.ErrFrame, h.segment, h.slice, h.length, c.come, c.root, 4*(hi-lo))
	}
	return place{dst: bytesOf(c.buf[lo:hi])}, true, nil
}

func (c *chainCast) arrived(_ int, _ *header) error {
	lo, hi := c.cut.Segment(0, c.come)
	fromWire(c.buf[lo:hi], littleEndian)
	c.come++
	return nil
}

// next has work where a segment can be passed on.
func (c *chainCast) next() (work, done bool) {
	return c.sent < c.come, c.sent == c.cut.Segments(0)
}

func (c *chainCast) work() {
	c.g.mu.Lock()
	c.forward()
	c.g.mu.Unlock()
	c.g.flush()
}

func (c *chainCast) owes(peer int) debt {
	switch {
	case peer != c.predecessor() || c.g.rank == c.root || c.come == c.cut.Segments(0):
		return owesNothing
	case peer == c.root:
		return owesOwn
	default:
		return owesRelayed
	}
}

func (c *chainCast) release() { c.buf = nil }
