package allreduce

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Patience of a failing or leaving group.
const (
	frameGrace = 50 * time.Millisecond  // for a frame that is being written to end
	farewell   = 200 * time.Millisecond // to write the last frame
	linger     = 500 * time.Millisecond // to drain what the peer still sends
	readGrace  = 250 * time.Millisecond // for the reader to find out why a write failed
)

// stream is a connection between two ranks. Read and WriteFrame may run at the
// same time.
type stream interface {
	io.Reader
	// WriteFrame writes a header and a payload, which may be empty.
	WriteFrame(header, payload []byte) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// Memory tells that the bytes never leave this host's memory: payloads then
	// go without a checksum (crc 0). Headers always have theirs.
	Memory() bool
	// CloseWrite ends this direction: the peer reads to the end, then io.EOF.
	CloseWrite() error
	io.Closer
}

// link is one connection of a mesh, with its reader and its writer.
type link struct {
	g    *mesh
	peer int
	conn stream

	// Guarded by g.mu.
	work    sync.Cond // the writer: something to send
	urgent  sendQueue // goes first
	bulk    sendQueue
	pending int         // items queued or being written
	left    bool        // the peer has said goodbye
	mute    bool        // the writer has ended
	stall   stallReport // the peer's last

	// The writer's.
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

func (q *sendQueue) pop() (sendItem, bool) {
	if q.head == len(q.items) {
		return sendItem{}, false
	}
	it := q.items[q.head]
	q.items[q.head] = sendItem{}
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it, true
}

// push queues a frame; g.mu is held.
func (l *link) push(it sendItem) {
	if it.urgent {
		l.urgent.push(it)
	} else {
		l.bulk.push(it)
	}
	l.pending++
	l.work.Signal()
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
}

// interrupt makes the reader return at once, and the writer soon.
func (l *link) interrupt() {
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	_ = l.conn.SetWriteDeadline(time.Now().Add(frameGrace))
}

// write sends queued frames until the group ends or the peer leaves.
func (l *link) write() {
	g := l.g
	intact := true // the stream is at a frame's boundary
	for {
		g.mu.Lock()
		it, ok := l.take()
		for !ok && g.fault == nil && !l.left {
			l.work.Wait()
			it, ok = l.take()
		}
		if g.fault != nil || !ok {
			l.mute = true
			g.mu.Unlock()
			break
		}
		op := g.op
		g.busy++
		g.mu.Unlock()

		err := l.send(op, &it)
		intact = err == nil

		g.mu.Lock()
		g.busy--
		l.pending--
		idle := l.pending == 0
		if g.fault != nil {
			g.cond.Broadcast()
		}
		g.mu.Unlock()
		if idle {
			g.notify()
		}
		if err != nil {
			l.writeFailed(err)
			break
		}
	}
	l.leave(intact)
}

func (l *link) take() (sendItem, bool) {
	if it, ok := l.urgent.pop(); ok {
		return it, true
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
	case l.conn.Memory():
		crc = 0
	case !it.summed:
		crc = checksum(payload)
	}
	h := header{
		kind: it.kind, from: u16(l.g.rank), generation: l.g.generation, number: l.sent,
		op: op.number, bucket: op.bucket, elems: op.elems,
		segment: it.segment, slice: it.slice, part: it.part,
		length: u32(len(payload)), crc: crc,
	}
	h.encode(&l.out)
	l.sent++
	return l.conn.WriteFrame(l.out[:], payload)
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
	reason := ErrPeerLost
	g.mu.Lock()
	if l.left {
		reason = ErrPeerLeft
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

// read takes frames until the group ends or the peer leaves, then drains the
// connection: closing it with unread data would make the kernel throw away
// what it has not yet delivered to the peer.
func (l *link) read() {
	g := l.g
	err := l.receive()
	if err != nil {
		g.fail(l.explain(err))
	}
	g.mu.Lock()
	failed := g.fault != nil
	g.mu.Unlock()
	if failed {
		<-g.torn
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(linger))
	_, _ = io.Copy(io.Discard, readerOnly{l.conn})
}

// readerOnly hides other methods from io.Copy.
type readerOnly struct{ io.Reader }

var errGroupEnded = errors.New("allreduce: group has ended")

// explain turns an error of the reader into the group's failure.
func (l *link) explain(err error) *fault {
	var f *remoteAbortError
	switch {
	case errors.As(err, &f):
		peer := f.note.culprit
		if peer == NoPeer {
			peer = f.note.origin
		}
		return &fault{peer: peer, err: f, note: &f.note}
	case errors.Is(err, ErrFrame), errors.Is(err, ErrMismatch):
		return &fault{peer: l.peer, err: err}
	default:
		return &fault{peer: l.peer, err: fmt.Errorf("%w: %w", ErrPeerLost, err)}
	}
}

// remoteAbortError is the reason for which a peer ended the group.
type remoteAbortError struct{ note abortNote }

func (a *remoteAbortError) Error() string {
	return fmt.Sprintf("%v by rank %d: %s", ErrAborted, a.note.origin, a.note.reason)
}

func (a *remoteAbortError) Unwrap() error { return ErrAborted }

// receive takes frames until one says goodbye (nil) or something fails.
func (l *link) receive() error {
	g := l.g
	for {
		h, err := l.readHeader()
		if err != nil {
			return err
		}
		switch h.kind {
		case frameGoodbye:
			g.mu.Lock()
			l.left = true
			l.work.Broadcast()
			g.mu.Unlock()
			g.notify()
			return nil
		case frameAbort:
			buf := make([]byte, h.length)
			if err := l.readPayload(h, buf); err != nil {
				return err
			}
			note, err := decodeAbort(buf, g.world)
			if err != nil {
				return err
			}
			return &remoteAbortError{note}
		case frameStall:
			if int(h.slice) >= g.world || h.length != 0 {
				return fmt.Errorf("%w: stall report about rank %d", ErrFrame, h.slice)
			}
			g.mu.Lock()
			l.stall = stallReport{op: h.op, rank: int(h.slice), received: h.segment}
			g.mu.Unlock()
		case frameReduce, frameGather, frameBroadcast, frameWord:
			if err := l.data(h); err != nil {
				return err
			}
		}
	}
}

// readHeader reads and checks a header.
func (l *link) readHeader() (*header, error) {
	if n, err := io.ReadFull(l.conn, l.in[:]); err != nil {
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errGroupEnded
		case n > 0:
			return nil, fmt.Errorf("after %d bytes of a header: %w", n, err)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("it closed the connection: %w", err)
		}
		return nil, err
	}
	h := &l.h
	if err := h.decode(&l.in); err != nil {
		return nil, err
	}
	switch {
	case h.generation != l.g.generation:
		return nil, fmt.Errorf("%w: it belongs to generation %d", ErrFrame, h.generation)
	case int(h.from) != l.peer:
		return nil, fmt.Errorf("%w: it claims to come from rank %d", ErrFrame, h.from)
	case h.number != l.received:
		return nil, fmt.Errorf("%w: frame %d where %d was due", ErrFrame, h.number, l.received)
	}
	l.received++
	return h, nil
}

// readPayload reads and checks a payload.
func (l *link) readPayload(h *header, dst []byte) error {
	if len(dst) > 0 {
		if n, err := io.ReadFull(l.conn, dst); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errGroupEnded
			}
			return fmt.Errorf("after %d of %d bytes of a %v frame: %w", n, len(dst), h.kind, err)
		}
	}
	if l.conn.Memory() {
		return nil
	}
	return h.checkPayload(dst)
}

// data takes a frame of an operation: it waits until the operation runs here
// and has room, and puts the payload in its place.
func (l *link) data(h *header) error {
	g := l.g
	g.mu.Lock()
	dst, err := l.await(h)
	if err != nil {
		g.mu.Unlock()
		return err
	}
	g.busy++
	g.mu.Unlock()

	err = l.readPayload(h, dst)

	g.mu.Lock()
	g.busy--
	if g.fault != nil {
		g.cond.Broadcast()
	} else if err == nil {
		g.current.arrived(l.peer, h)
		g.frames++
	}
	g.mu.Unlock()
	g.notify()
	return err
}

// await returns the place for a frame's payload; g.mu is held.
func (l *link) await(h *header) ([]byte, error) {
	g := l.g
	for {
		if g.fault != nil {
			return nil, errGroupEnded
		}
		running := g.current != nil
		switch {
		case h.op < g.op.number, h.op == g.op.number && !running:
			return nil, fmt.Errorf("%w: %v frame of operation %d after its end", ErrFrame, h.kind, h.op)
		case h.op == g.op.number:
			if err := g.op.agrees(h); err != nil {
				return nil, err
			}
			dst, ok, err := g.current.place(l.peer, h)
			if err != nil || ok {
				return dst, err
			}
		}
		g.cond.Wait()
	}
}

// agrees checks that a peer is in the same operation.
func (op *opState) agrees(h *header) error {
	kind := h.kind
	if kind == frameGather {
		kind = frameReduce
	}
	if kind == op.kind && h.bucket == op.bucket && h.elems == op.elems {
		return nil
	}
	return fmt.Errorf("%w: as operation %d it runs %s, this rank %s",
		ErrMismatch, h.op, describe(kind, h.bucket, h.elems), describe(op.kind, op.bucket, op.elems))
}

func describe(kind frameType, bucket uint32, elems uint64) string {
	switch kind {
	case frameReduce:
		return fmt.Sprintf("%s of bucket %d (%d elements)", OpAllReduce, bucket, elems)
	case frameBroadcast:
		return fmt.Sprintf("%s from rank %d (%d elements)", OpBroadcast, bucket, elems)
	case frameWord:
		if bucket == 1 {
			return OpBarrier
		}
		return OpAllGather
	case frameGather, frameStall, frameAbort, frameGoodbye:
	}
	return kind.String()
}

// tcpStream is a stream over TCP.
type tcpStream struct {
	*net.TCPConn
	array [2][]byte
	vec   net.Buffers
}

// WriteFrame implements stream with one vectored write.
func (s *tcpStream) WriteFrame(header, payload []byte) error {
	s.array = [2][]byte{header, payload}
	s.vec = s.array[:1]
	if len(payload) > 0 {
		s.vec = s.array[:2]
	}
	_, err := s.vec.WriteTo(s.TCPConn)
	s.array = [2][]byte{}
	return err
}

// Memory implements stream.
func (s *tcpStream) Memory() bool { return false }
