package mesh

import (
	"context"
	"fmt"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/flight"
)

// Who is to blame for a wait? A rank that waits may wait for one that itself
// waits for another. So a rank that has waited for a quarter of its deadline
// says so in its log and tells its peers for whom it waits (a stall frame);
// when a deadline passes, blame follows these reports to the rank that waits
// for nobody. Where they all wait in a circle, as round a ring with one broken
// connection, the rank that has received least sits behind the break.

// stallWatch is the state of one operation's complaints.
type stallWatch struct {
	every time.Duration
	count int
	peer  int // last complained of
}

// next returns when to complain next, counted from the operation's begin.
func (w *stallWatch) next() time.Duration { return time.Duration(w.count+1) * w.every }

// stallReport is what a peer said last: in operation op it has received so many
// frames and waits for rank.
type stallReport struct {
	op       uint32
	rank     int
	received uint32
}

// stalled logs for whom an operation waits, where that has changed, and tells
// the peers.
func (g *group) stalled(ctx context.Context, c collective, waited time.Duration) {
	w := &g.watch
	w.count++
	g.mu.Lock()
	peer := g.waitsFor(c)
	changed := peer != w.peer
	w.peer = peer
	op := g.op
	if peer != allreduce.NoPeer {
		for _, l := range g.links {
			if l != nil && !l.left {
				l.push(sendItem{kind: frameStall, slice: u16(peer), segment: g.frames, urgent: true})
			}
		}
	}
	g.mu.Unlock()
	g.flush()
	if changed {
		g.note(flight.Waits, peer)
	}
	if changed && peer != allreduce.NoPeer {
		g.log.WarnContext(ctx, "still waiting", "peer", peer, "op", op.Name, "bucket", op.Bucket,
			"op_number", op.number, "waited", waited.Round(time.Millisecond))
	}
}

// waitsFor returns the peer that an operation waits for in the first place:
// one that owes something of its own, else one that owes something relayed,
// else one that does not take what it is sent.
func (g *group) waitsFor(c collective) int {
	peer, worst := allreduce.NoPeer, owesNothing
	for _, l := range g.links {
		if l == nil {
			continue
		}
		if d := c.owes(l.peer); d > worst {
			peer, worst = l.peer, d
		}
	}
	if peer != allreduce.NoPeer {
		return peer
	}
	for _, l := range g.links {
		if l != nil && l.pending > 0 {
			return l.peer
		}
	}
	return allreduce.NoPeer
}

// overdue returns the failure of an operation that took too long.
func (g *group) overdue(c collective, err error) *fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	peer := g.waitsFor(c)
	if peer == allreduce.NoPeer {
		return &fault{peer: allreduce.NoPeer, err: err}
	}
	culprit := g.blame(c, peer)
	if culprit != peer {
		err = fmt.Errorf("%w (this rank waits for rank %d, which waits for rank %d in turn)", err, peer, culprit)
	}
	return &fault{peer: culprit, err: fmt.Errorf("waiting for it: %w", err)}
}

// blame follows the peers' stall reports from peer to the rank that waits for
// nobody. A peer in this same operation that owes something of its own has no
// excuse.
func (g *group) blame(c collective, peer int) int {
	own := stallReport{op: g.op.number, rank: peer, received: g.frames}
	least, at := own, peer
	for range g.world {
		r := own
		if at != g.rank {
			r = g.links[at].stall
			excused := r.op == g.op.number && c.owes(at) != owesOwn || r.op+1 == g.op.number
			if r.op == 0 || !excused {
				return at
			}
		}
		if r.op < least.op || r.op == least.op && r.received < least.received {
			least = r
		}
		at = r.rank
	}
	return least.rank
}
