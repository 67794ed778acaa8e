package mesh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/agrdist/agrdist/allreduce"
)

// Ranks of one host can talk through memory that both map: two rings of bytes,
// one a direction. The TCP connection of the handshake stays open beside it: a
// byte on it is a bell that wakes the other side, and its end is the peer's
// death.
//
//	0      32        64        128       192     256      4096    4096+size
//	+------+---------+---------+---------+--------+---------------+-------
//	|nonce | written | read    | flags   | with-  | bytes         | the
//	|      |         |         |         | drawn  |               | other ring
//	+------+---------+---------+---------+--------+---------------+-------
//
// written and read count bytes for ever; the ring holds written - read of them.
// Each is written by one side only and has a cache line of its own.
const (
	shmControl   = 4096
	shmWritten   = 64
	shmRead      = 128
	shmSleeper   = 192 // u32: the reader sleeps
	shmFull      = 196 // u32: the writer sleeps
	shmEnded     = 200 // u32: the writer has ended
	shmWithdrawn = 256 // u32: what the writer has lent must not be read any more
	shmNonceSize = 32

	// shmChunk is what is copied before it is made visible, in bytes.
	shmChunk = 64 << 10

	// shmSpin is how often a side looks again before it sleeps, for some 50 us on
	// an idle core: a bell takes as long. Each time it yields to other
	// goroutines, and each shmYield-th time to other processes: the peer may need
	// this very core.
	shmSpin  = 200
	shmYield = 4
)

// fence shows the race detector the order that a ring guarantees: it does not
// follow atomics outside Go's own memory.
var fence atomic.Uint64

// byteRing is one direction.
type byteRing struct {
	data                 []byte // a power of two
	written, read        *atomic.Uint64
	sleeper, full, ended *atomic.Uint32
	withdrawn            *atomic.Uint32
}

// newByteRing views memory of shmControl + a power of two bytes as a ring.
func newByteRing(mem []byte) byteRing {
	u64 := func(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[off])) }
	u32 := func(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&mem[off])) }
	return byteRing{
		data: mem[shmControl:], written: u64(shmWritten), read: u64(shmRead),
		sleeper: u32(shmSleeper), full: u32(shmFull), ended: u32(shmEnded),
		withdrawn: u32(shmWithdrawn),
	}
}

// mask turns a count of bytes into a place in the ring.
func (r *byteRing) mask() uint64 { return uint64(len(r.data)) - 1 }

// held returns how many bytes the ring holds.
func (r *byteRing) held() (int, error) {
	n := r.written.Load() - r.read.Load()
	if n > uint64(len(r.data)) {
		return 0, fmt.Errorf("%w: shared memory is corrupt: %d bytes in a ring of %d", allreduce.ErrFrame, n, len(r.data))
	}
	return int(n), nil
}

// fits tells whether a writer can put n bytes at once.
func (r *byteRing) fits(n int) bool {
	held, err := r.held()
	return err == nil && n <= len(r.data)-held
}

// put copies as much of b as fits, at most a chunk, and returns how much.
func (r *byteRing) put(b []byte) (int, error) {
	held, err := r.held()
	if err != nil {
		return 0, err
	}
	at := r.written.Load() & r.mask()
	n := min(len(b), len(r.data)-held, shmChunk)
	copied := copy(r.data[at:], b[:n])
	copy(r.data, b[copied:n])
	fence.Add(1)
	r.written.Add(uint64(n))
	return n, nil
}

// take copies at most a chunk of what the ring holds to b.
func (r *byteRing) take(b []byte) (int, error) {
	held, err := r.held()
	if err != nil {
		return 0, err
	}
	fence.Load()
	at := r.read.Load() & r.mask()
	n := min(len(b), held, shmChunk)
	copied := copy(b[:n], r.data[at:])
	copy(b[copied:n], r.data)
	r.read.Add(uint64(n))
	return n, nil
}

// readable tells whether a reader has something to do.
func (r *byteRing) readable() bool {
	return r.written.Load() != r.read.Load() || r.ended.Load() != 0
}

// writable tells whether a writer has something to do.
func (r *byteRing) writable() bool {
	return r.written.Load()-r.read.Load() != uint64(len(r.data))
}

// drained tells whether a writer that sleeps because the ring was full should
// be woken: not for every chunk.
func (r *byteRing) drained() bool {
	return r.written.Load()-r.read.Load() <= uint64(len(r.data)/2)
}

// shmStream is a stream over two rings and a bell.
type shmStream struct {
	conn        net.Conn
	mem         []byte
	unmap       func([]byte) error
	out, in     byteRing
	data, space chan struct{} // rung by the peer: it has written, it has read
	gone        chan struct{} // closed when the connection has ended
	bell        [1]byte
	readBy      deadline
	writeBy     deadline
	readable    func() bool
	writable    func() bool
	closing     sync.Once
	errUnmap    error
	mapped      sync.RWMutex // guards closed: Withdraw and Withdrawn may come late
	closed      bool
}

// newShmStream returns the stream over memory whose first half is the ring
// that this side reads (first) or writes.
func newShmStream(conn net.Conn, mem []byte, reads bool, unmap func([]byte) error) *shmStream {
	half := len(mem) / 2
	s := &shmStream{
		conn: conn, mem: mem, unmap: unmap,
		data: make(chan struct{}, 1), space: make(chan struct{}, 1),
		gone: make(chan struct{}),
	}
	s.in, s.out = newByteRing(mem[:half]), newByteRing(mem[half:])
	if !reads {
		s.in, s.out = s.out, s.in
	}
	s.readable, s.writable = s.in.readable, s.out.writable
	s.readBy.init()
	s.writeBy.init()
	go s.listen()
	return s
}

// listen turns bells into wake-ups until the connection ends.
func (s *shmStream) listen() {
	defer close(s.gone)
	var b [64]byte
	for {
		n, err := s.conn.Read(b[:])
		if n > 0 {
			for _, c := range []chan struct{}{s.data, s.space} {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// ring wakes the peer if it has said that it sleeps.
func (s *shmStream) ring(sleeps *atomic.Uint32) {
	if sleeps.Load() != 0 && sleeps.CompareAndSwap(1, 0) {
		_, _ = s.conn.Write(s.bell[:]) // a broken bell shows as the end of the connection
	}
}

// wait sleeps until the peer rings, after announcing it in sleeps, unless ready
// holds by then.
func (s *shmStream) wait(sleeps *atomic.Uint32, rung <-chan struct{}, d *deadline, ready func() bool) error {
	for i := range shmSpin {
		if ready() {
			return nil
		}
		if d.passed() {
			return os.ErrDeadlineExceeded
		}
		runtime.Gosched()
		if i%shmYield == shmYield-1 {
			yieldCore()
		}
	}
	sleeps.Store(1)
	defer sleeps.Store(0)
	if ready() {
		return nil
	}
	select {
	case <-rung:
		return nil
	case <-d.wait():
		return os.ErrDeadlineExceeded
	case <-s.gone:
		if ready() {
			return nil
		}
		return io.EOF
	}
}

// Read implements io.Reader.
func (s *shmStream) Read(p []byte) (int, error) {
	for {
		if s.readBy.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		ended := s.in.ended.Load() != 0 // before take: what was written before the end comes first
		n, err := s.in.take(p)
		if n > 0 {
			if s.in.drained() {
				s.ring(s.in.full)
			}
			return n, nil
		}
		if err != nil || len(p) == 0 {
			return 0, err
		}
		if ended {
			return 0, io.EOF
		}
		if err := s.wait(s.in.sleeper, s.data, &s.readBy, s.readable); err != nil {
			return 0, err
		}
	}
}

// WriteFrame implements stream.
func (s *shmStream) WriteFrame(header *[headerSize]byte, payload []byte) error {
	if err := s.write(header[:]); err != nil {
		return err
	}
	return s.write(payload)
}

func (s *shmStream) write(b []byte) error {
	for len(b) > 0 {
		if s.writeBy.passed() {
			return os.ErrDeadlineExceeded
		}
		n, err := s.out.put(b)
		if err != nil {
			return err
		}
		b = b[n:]
		if n > 0 {
			s.ring(s.out.sleeper)
			continue
		}
		err = s.wait(s.out.full, s.space, &s.writeBy, s.writable)
		if errors.Is(err, io.EOF) {
			return net.ErrClosed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SetReadDeadline implements stream.
func (s *shmStream) SetReadDeadline(t time.Time) error {
	s.readBy.set(t)
	return nil
}

// SetWriteDeadline implements stream.
func (s *shmStream) SetWriteDeadline(t time.Time) error {
	s.writeBy.set(t)
	return nil
}

// Checks implements stream: the bytes never leave this host's memory.
func (s *shmStream) Checks() bool { return true }

// ReadHeader implements stream.
func (s *shmStream) ReadHeader(b *[headerSize]byte) (int, error) { return io.ReadFull(s, b[:]) }

// ReadPayload implements stream.
func (s *shmStream) ReadPayload(b []byte) (int, error) { return io.ReadFull(s, b) }

// Drain implements stream.
func (s *shmStream) Drain() { drain(s) }

// Withdraw tells the peer that what this side has lent it is about to change.
func (s *shmStream) Withdraw() {
	s.mapped.RLock()
	defer s.mapped.RUnlock()
	if !s.closed {
		s.out.withdrawn.Store(1)
	}
}

// Withdrawn tells whether the peer may have changed what it had lent by the time
// of the call. What was read before a call that says no was as the peer had lent
// it.
func (s *shmStream) Withdrawn() bool {
	fence.Add(1) // reads before stay before, on every processor
	s.mapped.RLock()
	defer s.mapped.RUnlock()
	return s.closed || s.in.withdrawn.Load() != 0
}

// CloseWrite implements stream.
func (s *shmStream) CloseWrite() error {
	s.out.ended.Store(1)
	_, _ = s.conn.Write(s.bell[:])
	return nil
}

// Close implements stream. Nothing may read or write any more: the memory goes.
func (s *shmStream) Close() error {
	s.closing.Do(func() {
		_ = s.conn.Close()
		<-s.gone
		s.readBy.set(time.Time{})
		s.writeBy.set(time.Time{})
		s.mapped.Lock()
		defer s.mapped.Unlock()
		s.closed = true
		s.errUnmap = s.unmap(s.mem)
	})
	return s.errUnmap
}
