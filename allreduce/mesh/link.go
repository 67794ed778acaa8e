package mesh

import (
	"fmt"
	"sync"
	"time"

	"github.com/agrdist/agrdist/allreduce"
)

// Patience of a failing or leaving group.
const (
	frameGrace = 50 * time.Millisecond  // for a frame that is being written to end
	farewell   = 200 * time.Millisecond // to write the last frame
	linger     = 500 * time.Millisecond // to drain what the peer still sends
	readGrace  = 250 * time.Millisecond // for the reader to find out why a write failed
)

// link is one connection of a mesh, with its reader and its writer.
type link struct {
	g    *group
	peer int
	conn stream
	shm  *shmStream // conn, where it is shared memory

	// Guarded by g.mu.
	work    sync.Cond // the writer: something to send
	urgent  sendQueue // goes first
	bulk    sendQueue
	pending int         // items queued or being written
	writing bool        // somebody writes
	broken  error       // a write has failed: the stream is not at a frame's boundary
	left    bool        // the peer has said goodbye
	mute    bool        // the writer has ended
	stall   stallReport // the peer's last
	lending lending

	// Of whom has set writing.
	sent    uint64
	out     [headerSize]byte
	swapped []float32

	// The reader's.
	received uint64
	in       [headerSize]byte
	h        header
}

// sendItem is a frame to be sent: its payload is floats or raw, or nothing.
type sendItem struct {
	kind        frameType
	urgent      bool
	summed      bool // crc is set
	slice, part uint16
	segment     uint32
	crc         uint32
	floats      []float32
	raw         []byte
}

// sendQueue is a first-in first-out queue that keeps its memory.
type sendQueue struct {
	items []sendItem
	head  int
}

func (q *sendQueue) push(it sendItem) { q.items = append(q.items, it) }

func (q *sendQueue) empty() bool { return q.head == len(q.items) }

// pop takes the first item of a queue that has one.
func (q *sendQueue) pop() sendItem {
	it := q.items[q.head]
	q.items[q.head] = sendItem{}
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it
}

// push queues a frame; g.mu is held. The caller flushes when it has let go of it.
func (l *link) push(it sendItem) {
	if it.urgent {
		l.urgent.push(it)
	} else {
		l.bulk.push(it)
	}
	l.pending++
}

// directBytes bounds the payload of a frame that flush writes itself.
const directBytes = 4 << 10

// flush sees to it that what is queued gets written. Small frames that fit into
// shared memory it writes at once, which never blocks; all others are left to
// the writer, whose wake-up takes longer than such a frame.
func (l *link) flush() {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for l.shm != nil && !l.writing && !l.mute && l.broken == nil && g.fault == nil {
		it := l.next()
		if it == nil || it.floats != nil || len(it.raw) > directBytes || !l.shm.out.fits(headerSize+len(it.raw)) {
			break
		}
		l.writeOne()
	}
	if l.next() != nil || l.broken != nil || l.left || g.fault != nil {
		l.work.Signal()
	}
}

// flush is link.flush of all links.
func (g *group) flush() {
	for _, l := range g.links {
		if l != nil {
			l.flush()
		}
	}
}

// writeOne writes the next frame. g.mu is held, except while writing.
func (l *link) writeOne() {
	g := l.g
	it := l.take()
	op := g.op
	l.writing = true
	g.busy++
	g.mu.Unlock()

	err := l.send(op, &it)

	g.mu.Lock()
	g.busy--
	l.writing = false
	l.pending--
	l.broken = err
	if g.fault != nil {
		g.cond.Broadcast()
	}
	if l.pending == 0 {
		g.notify()
	}
}

// run is the link's life.
func (l *link) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.write()
	}()
	l.read()
	<-done
	_ = l.conn.Close()
	l.unmap()
}

// interrupt makes the reader return at once, and the writer soon.
func (l *link) interrupt() {
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	_ = l.conn.SetWriteDeadline(time.Now().Add(frameGrace))
}

// write sends queued frames until the group ends or the peer leaves.
func (l *link) write() {
	g := l.g
	g.mu.Lock()
	for {
		for l.writing || l.next() == nil && l.broken == nil && g.fault == nil && !l.left {
			l.work.Wait()
		}
		if g.fault != nil || l.broken != nil || l.next() == nil {
			break
		}
		l.writeOne()
	}
	l.mute = true
	err := l.broken
	g.mu.Unlock()
	if err != nil {
		l.writeFailed(err)
	}
	l.leave(err == nil)
}

// next returns the frame to be written next, or nil.
func (l *link) next() *sendItem {
	for _, q := range []*sendQueue{&l.urgent, &l.bulk} {
		if !q.empty() {
			return &q.items[q.head]
		}
	}
	return nil
}

func (l *link) take() sendItem {
	if !l.urgent.empty() {
		return l.urgent.pop()
	}
	return l.bulk.pop()
}

// send writes one frame.
func (l *link) send(op opState, it *sendItem) error {
	payload := it.raw
	if it.floats != nil {
		payload = toWire(it.floats, &l.swapped, littleEndian)
	}
	crc := it.crc
	switch {
	case l.conn.Checks():
		crc = 0
	case !it.summed:
		crc = checksum(payload)
	}
	h := header{
		kind: it.kind, from: u16(l.g.rank), generation: l.g.generation, number: l.sent,
		op: op.number, bucket: bucketOf(op.Operation), elems: uint64(op.Elems),
		segment: it.segment, slice: it.slice, part: it.part,
		length: u32(len(payload)), crc: crc,
	}
	h.encode(&l.out)
	l.sent++
	return l.conn.WriteFrame(&l.out, payload)
}

// writeFailed reports a failed write, but leaves the reader time to find a
// better reason: an abort frame, or the end of the stream.
func (l *link) writeFailed(err error) {
	g := l.g
	select {
	case <-g.dead:
		return
	case <-time.After(readGrace):
	}
	reason := allreduce.ErrPeerLost
	g.mu.Lock()
	if l.left {
		reason = allreduce.ErrPeerLeft
	}
	g.mu.Unlock()
	g.fail(&fault{peer: l.peer, err: fmt.Errorf("%w: %w", reason, err)})
}

// leave writes the last frame and ends the direction.
func (l *link) leave(intact bool) {
	g := l.g
	g.mu.Lock()
	f := g.fault
	g.mu.Unlock()
	if f != nil {
		<-g.torn
		_ = l.conn.SetWriteDeadline(time.Now().Add(farewell))
		if intact {
			it := sendItem{kind: frameGoodbye}
			if !f.goodbye {
				it = sendItem{kind: frameAbort, raw: f.note.encode()}
			}
			_ = l.send(opState{}, &it)
		}
	}
	_ = l.conn.CloseWrite()
}
