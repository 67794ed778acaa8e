package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

// Ranks of one host whose vectors lie in package sharedmem's blocks do not send
// them: they lend them. A rank says once an operation where its subtree sums and
// its result lie; owners add straight from there, and everybody copies the
// finished slices out of their owners' results.
//
//	rank r                                      owner k of slice k
//	   block: ticket                       -->  maps it, once a connection
//	                                       <--  mapped
//	   lend: my parts, my result           -->  add, slice k, from r's parts
//	                                       <--  gather: a segment is done
//	   copy it from k's result
//	   taken: all of slice k               -->  k may return
//
// A block that is new, or that the peer cannot map, is no obstacle: its vectors
// travel through the ring. Until mapped has come they all do.
//
// When an operation returns, the caller may change its vectors. After a success
// nobody reads them any more: the parts have been read when the last gather has
// come, the result when all have said taken. A failure cannot wait for peers, so
// it withdraws what is lent instead, by a flag in the ring's memory: who reads
// lent memory looks at the flag AFTER reading, and what may have changed is
// thrown away. The reader's own mapping stays until its group ends, whatever the
// lender does or dies of.

// lendMin is the size of a slice, in bytes, from which lending is worth a frame.
const lendMin = 4 << 10

// lendBatch is about how many elements an owner adds before it says so: 1 MiB.
const lendBatch = 256 << 10

// refSize is the length of an encoded ref, in bytes.
const refSize = 16

// maxLend bounds the payload of a lend frame: a block of chunks is at most two
// subtrees a level, and the result is one more.
const maxLend = refSize * (2*24 + 1)

// maxViews bounds the blocks of a peer that a link maps.
const maxViews = 1024

// errWithdrawn says that memory was read which the peer has withdrawn.
var errWithdrawn = errors.New("allreduce: the peer has withdrawn what it had lent")

// ref says where a vector begins: a block's id, 0 for a vector that is not lent,
// and a byte offset.
type ref struct {
	block  uint32
	offset uint64
}

func (r ref) put(b []byte) {
	binary.LittleEndian.PutUint32(b, r.block)
	binary.LittleEndian.PutUint32(b[4:], 0)
	binary.LittleEndian.PutUint64(b[8:], r.offset)
}

func getRef(b []byte) ref {
	return ref{block: binary.LittleEndian.Uint32(b), offset: binary.LittleEndian.Uint64(b[8:])}
}

// lending is a link's knowledge of blocks; g.mu guards it.
type lending struct {
	open    func(sharedmem.Ticket) (*sharedmem.View, error)
	offered map[uint32]bool            // own blocks by id: whether the peer has mapped them
	views   map[uint32]*sharedmem.View // the peer's
	frame   []byte                     // payload of the operation's lend frame
}

// lendable returns where a vector lies, if the peer can read it there. The peer
// is offered what it has not seen; g.mu is held.
func (l *link) lendable(v []float32) (ref, bool) {
	if l.shm == nil {
		return ref{}, false
	}
	m, off, ok := sharedmem.Find(v)
	if !ok {
		return ref{}, false
	}
	mapped, seen := l.lending.offered[m.ID()]
	switch {
	case !seen && len(l.lending.offered) == maxViews:
		return ref{}, false
	case !seen:
		if l.lending.offered == nil {
			l.lending.offered = make(map[uint32]bool)
		}
		l.lending.offered[m.ID()] = false
		ticket := m.Ticket()
		l.push(sendItem{kind: frameBlock, urgent: true, raw: ticket.Append(nil)})
	}
	return ref{block: m.ID(), offset: off}, mapped
}

// mapBlock takes a block frame.
func (l *link) mapBlock(h *header) error {
	var raw [sharedmem.TicketSize]byte
	if l.shm == nil || h.length != sharedmem.TicketSize {
		return fmt.Errorf("%w: unexpected %v frame of %d bytes", allreduce.ErrFrame, h.kind, h.length)
	}
	if err := l.readPayload(h, raw[:]); err != nil {
		return err
	}
	t, err := sharedmem.ParseTicket(raw[:])
	if err != nil {
		return fmt.Errorf("%w: %w", allreduce.ErrFrame, err)
	}
	v, err := l.lending.open(t)
	answer := sendItem{kind: frameMapped, urgent: true, segment: t.ID, part: 1}
	g := l.g
	g.mu.Lock()
	switch known := l.lending.views[t.ID] != nil; {
	case err == nil && (known || len(l.lending.views) == maxViews):
		g.mu.Unlock()
		v.Close()
		return fmt.Errorf("%w: block %d twice, or one of more than %d", allreduce.ErrFrame, t.ID, maxViews)
	case err == nil:
		if l.lending.views == nil {
			l.lending.views = make(map[uint32]*sharedmem.View)
		}
		l.lending.views[t.ID] = v
	default:
		answer.part = 0
	}
	l.push(answer)
	g.mu.Unlock()
	l.flush()
	if err != nil {
		g.log.Debug("memory of a peer of the same host cannot be mapped", "peer", l.peer, "err", err)
	}
	return nil
}

// blockMapped takes a mapped frame.
func (l *link) blockMapped(h *header) error {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := l.lending.offered[h.segment]; !ok || h.part > 1 || h.length != 0 {
		return fmt.Errorf("%w: answer to a block %d that was not offered", allreduce.ErrFrame, h.segment)
	}
	l.lending.offered[h.segment] = h.part == 1
	return nil
}

// borrowed returns n floats of a peer's block that begin so many elements after
// a ref; g.mu is held.
func (l *link) borrowed(r ref, skip, n int) ([]float32, error) {
	v := l.lending.views[r.block]
	if v == nil {
		return nil, fmt.Errorf("%w: a vector in block %d, which is not mapped", allreduce.ErrFrame, r.block)
	}
	f, err := v.Float32s(r.offset, skip+n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", allreduce.ErrFrame, err)
	}
	return f[skip:], nil
}

// withdraw tells all peers that lent memory is about to change; g.mu is held.
func (g *group) withdraw() {
	for _, l := range g.links {
		if l != nil && l.shm != nil {
			l.shm.Withdraw()
		}
	}
}

// unmap ends the views of the peer's blocks. An operation that may still read
// them ends first, and none can begin: the group is over.
func (l *link) unmap() {
	g := l.g
	if l.shm == nil {
		return
	}
	<-g.dead
	g.mu.Lock()
	for g.current != nil {
		g.cond.Wait()
	}
	views := l.lending.views
	l.lending.views = nil
	g.mu.Unlock()
	for _, v := range views {
		v.Close()
	}
}
