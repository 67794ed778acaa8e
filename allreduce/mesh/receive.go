package mesh

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/agrdist/agrdist/allreduce"
)

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
	l.conn.Drain()
}

var errGroupEnded = errors.New("allreduce: group has ended")

// explain turns an error of the reader into the group's failure.
func (l *link) explain(err error) *fault {
	var f *remoteAbortError
	switch {
	case errors.As(err, &f):
		peer := f.note.culprit
		if peer == allreduce.NoPeer {
			peer = f.note.origin
		}
		return &fault{peer: peer, err: f, note: &f.note}
	case errors.Is(err, allreduce.ErrFrame), errors.Is(err, allreduce.ErrMismatch):
		return &fault{peer: l.peer, err: err}
	default:
		return &fault{peer: l.peer, err: fmt.Errorf("%w: %w", allreduce.ErrPeerLost, err)}
	}
}

// remoteAbortError is the reason for which a peer ended the group.
type remoteAbortError struct{ note abortNote }

func (a *remoteAbortError) Error() string {
	return fmt.Sprintf("%v by rank %d: %s", allreduce.ErrAborted, a.note.origin, a.note.reason)
}

func (a *remoteAbortError) Unwrap() error { return allreduce.ErrAborted }

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
				return fmt.Errorf("%w: stall report about rank %d", allreduce.ErrFrame, h.slice)
			}
			g.mu.Lock()
			l.stall = stallReport{op: h.op, rank: int(h.slice), received: h.segment}
			g.mu.Unlock()
		case frameBlock:
			if err := l.mapBlock(h); err != nil {
				return err
			}
		case frameMapped:
			if err := l.blockMapped(h); err != nil {
				return err
			}
		case frameReduce, frameGather, frameBroadcast, frameWord, frameLend, frameTaken:
			if err := l.data(h); err != nil {
				return err
			}
		}
	}
}

// readHeader reads and checks a header.
func (l *link) readHeader() (*header, error) {
	if n, err := l.conn.ReadHeader(&l.in); err != nil {
		switch {
		case errors.Is(err, allreduce.ErrFrame):
			return nil, err
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
		return nil, fmt.Errorf("%w: it belongs to generation %d", allreduce.ErrFrame, h.generation)
	case int(h.from) != l.peer:
		return nil, fmt.Errorf("%w: it claims to come from rank %d", allreduce.ErrFrame, h.from)
	case h.number != l.received:
		return nil, fmt.Errorf("%w: frame %d where %d was due", allreduce.ErrFrame, h.number, l.received)
	}
	l.received++
	return h, nil
}

// readPayload reads and checks a payload.
func (l *link) readPayload(h *header, dst []byte) error {
	if len(dst) > 0 {
		if n, err := l.conn.ReadPayload(dst); err != nil {
			if errors.Is(err, allreduce.ErrFrame) {
				return fmt.Errorf("payload of %v frame %d (segment %d): %w", h.kind, h.number, h.segment, err)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errGroupEnded
			}
			return fmt.Errorf("after %d of %d bytes of a %v frame: %w", n, len(dst), h.kind, err)
		}
	}
	if l.conn.Checks() {
		return nil
	}
	return h.checkPayload(dst)
}

// data takes a frame of an operation: it waits until the operation runs here
// and has room, and puts the payload in its place.
func (l *link) data(h *header) error {
	g := l.g
	g.mu.Lock()
	to, err := l.await(h)
	if err != nil {
		g.mu.Unlock()
		return err
	}
	g.busy++
	g.mu.Unlock()

	if to.from != nil {
		copy(to.dst, to.from)
		if l.shm.Withdrawn() {
			err = errWithdrawn
		}
	} else {
		err = l.readPayload(h, to.dst)
	}

	g.mu.Lock()
	g.busy--
	if g.fault != nil {
		g.cond.Broadcast()
	} else if err == nil {
		err = g.current.arrived(l.peer, h)
		g.frames++
	}
	owes := l.next() != nil
	g.mu.Unlock()
	if owes {
		l.flush()
	}
	g.notify()
	if errors.Is(err, errWithdrawn) {
		return nil // the peer has failed: the next frame says why
	}
	return err
}

// await returns the place for a frame's payload; g.mu is held.
func (l *link) await(h *header) (place, error) {
	g := l.g
	for {
		if g.fault != nil {
			return place{}, errGroupEnded
		}
		running := g.current != nil
		switch {
		case h.op < g.op.number, h.op == g.op.number && !running:
			return place{}, fmt.Errorf("%w: %v frame of operation %d after its end", allreduce.ErrFrame, h.kind, h.op)
		case h.op == g.op.number:
			if err := g.op.agrees(h); err != nil {
				return place{}, err
			}
			to, ok, err := g.current.place(l.peer, h)
			if err != nil || ok {
				return to, err
			}
		}
		g.cond.Wait()
	}
}

// agrees checks that a peer is in the same operation.
func (op *opState) agrees(h *header) error {
	if theirs := h.operation(); theirs != op.Operation {
		return fmt.Errorf("%w: as operation %d it runs %v, this rank %v", allreduce.ErrMismatch, h.op, theirs, op.Operation)
	}
	return nil
}
