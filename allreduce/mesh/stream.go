package mesh

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/agrdist/agrdist/allreduce"
)

// stream is a connection between two ranks. A reader and a writer may use it at
// the same time.
type stream interface {
	// ReadHeader reads a frame's header. It returns how many bytes have come; io.EOF
	// where none have, at the end. Errors that wrap ErrFrame say that what came is
	// not what the peer has sent.
	ReadHeader(b *[headerSize]byte) (int, error)
	// ReadPayload reads the payload of the header that was read last, which must be
	// as long as b, not empty. What it has put into b is worth nothing after an error.
	ReadPayload(b []byte) (int, error)
	// WriteFrame writes a header and a payload, which may be empty.
	WriteFrame(header *[headerSize]byte, payload []byte) error
	// Checks tells that the stream itself finds whatever happens to bytes on the
	// way: payloads then go without a checksum (crc 0). Headers always have theirs.
	Checks() bool
	// Drain reads to the end or the deadline, and throws it away.
	Drain()
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// CloseWrite ends this direction: the peer reads to the end, then io.EOF.
	CloseWrite() error
	io.Closer
}

func drain(r io.Reader) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{r}) }

// tcpStream is a stream over TCP without protection.
type tcpStream struct {
	*net.TCPConn

	rw    io.ReadWriter // the connection
	array [2][]byte
	vec   net.Buffers
}

// newTCPStream returns the stream of a security, with the keys of what is sent and
// received.
func newTCPStream(conn *net.TCPConn, s Security, send, receive cipher.AEAD) stream {
	plain := &tcpStream{TCPConn: conn, rw: conn}
	if s == SecurityNone {
		return plain
	}
	return &sealedStream{tcpStream: plain, out: newSeal(s, send), in: newSeal(s, receive)}
}

// ReadHeader implements stream.
func (s *tcpStream) ReadHeader(b *[headerSize]byte) (int, error) { return io.ReadFull(s.rw, b[:]) }

// ReadPayload implements stream.
func (s *tcpStream) ReadPayload(b []byte) (int, error) { return io.ReadFull(s.rw, b) }

// WriteFrame implements stream.
func (s *tcpStream) WriteFrame(header *[headerSize]byte, payload []byte) error {
	return s.write(header[:], payload)
}

// write writes both with one call to the kernel.
func (s *tcpStream) write(head, body []byte) error {
	s.array = [2][]byte{head, body}
	s.vec = s.array[:1]
	if len(body) > 0 {
		s.vec = s.array[:2]
	}
	_, err := s.vec.WriteTo(s.rw)
	s.array = [2][]byte{}
	return err
}

// Checks implements stream.
func (s *tcpStream) Checks() bool { return false }

// Drain implements stream.
func (s *tcpStream) Drain() { drain(s.rw) }

// sealedStream is a stream over TCP whose frames nobody between the ranks can
// alter, drop, repeat or reorder unseen; nor read, with SecurityAEAD.
//
//	mac    header 64 | its tag 16 | payload's tag 16 | payload
//	aead   header 64 | its tag 16 | payload, encrypted | payload's tag 16
//
// Tags are those of AES-256-GCM (NIST SP 800-38D) under the direction's key, over
// additional data alone where nothing is encrypted (GMAC). The nonce is the count
// of the direction's frames and whether the tag is the header's or the payload's, so
// it never comes twice, and a frame in another place has a wrong tag. A frame without
// a payload has a zero tag of it.
type sealedStream struct {
	*tcpStream

	out, in *seal
}

const tagSize = 16

// seal is the protection of one direction.
type seal struct {
	aead    cipher.AEAD
	encrypt bool
	count   uint64 // frames so far
	nonce   [12]byte
	head    [headerSize + 2*tagSize]byte
	none    [tagSize]byte // where an empty plaintext goes
	sealed  []byte        // an encrypted payload and its tag
}

func newSeal(s Security, aead cipher.AEAD) *seal {
	return &seal{aead: aead, encrypt: s == SecurityAEAD}
}

// prefix is what stands before the payload.
func (s *seal) prefix() []byte {
	if s.encrypt {
		return s.head[:headerSize+tagSize]
	}
	return s.head[:]
}

// What a nonce is for.
const (
	nonceHeader = iota
	noncePayload
)

func (s *seal) at(use byte) []byte {
	binary.LittleEndian.PutUint64(s.nonce[:], s.count)
	s.nonce[8] = use
	return s.nonce[:]
}

// WriteFrame implements stream.
func (s *sealedStream) WriteFrame(header *[headerSize]byte, payload []byte) error {
	o := s.out
	copy(o.head[:], header[:])
	o.aead.Seal(o.head[:headerSize], o.at(nonceHeader), nil, header[:])
	switch {
	case o.encrypt && len(payload) > 0:
		o.sealed = o.aead.Seal(o.sealed[:0], o.at(noncePayload), payload, nil)
		payload = o.sealed
	case len(payload) > 0:
		o.aead.Seal(o.head[:headerSize+tagSize], o.at(noncePayload), nil, payload)
	default:
		clear(o.head[headerSize+tagSize:])
	}
	o.count++
	return s.write(o.prefix(), payload)
}

// ReadHeader implements stream.
func (s *sealedStream) ReadHeader(b *[headerSize]byte) (int, error) {
	i := s.in
	n, err := io.ReadFull(s.rw, i.prefix())
	if err != nil {
		return n, err
	}
	tag := i.head[headerSize : headerSize+tagSize]
	if _, err := i.aead.Open(i.none[:0], i.at(nonceHeader), tag, i.head[:headerSize]); err != nil {
		return n, fmt.Errorf("%w: frame %d was altered between the ranks: its header's authentication tag is wrong", allreduce.ErrFrame, i.count)
	}
	empty := binary.LittleEndian.Uint32(i.head[48:]) == 0
	if !i.encrypt && empty && [tagSize]byte(i.head[headerSize+tagSize:]) != [tagSize]byte{} {
		return n, errAltered
	}
	copy(b[:], i.head[:])
	i.count++
	return n, nil
}

// ReadPayload implements stream.
func (s *sealedStream) ReadPayload(b []byte) (int, error) {
	i := s.in
	i.count-- // of the header that was read
	defer func() { i.count++ }()
	if !i.encrypt {
		n, err := io.ReadFull(s.rw, b)
		if err != nil {
			return n, err
		}
		if _, err := i.aead.Open(i.none[:0], i.at(noncePayload), i.head[headerSize+tagSize:], b); err != nil {
			return n, errAltered
		}
		return n, nil
	}
	if size := len(b) + tagSize; cap(i.sealed) < size {
		i.sealed = make([]byte, size)
	}
	sealed := i.sealed[:len(b)+tagSize]
	n, err := io.ReadFull(s.rw, sealed)
	if err != nil {
		return n, err
	}
	if _, err := i.aead.Open(b[:0], i.at(noncePayload), sealed, nil); err != nil {
		return n, errAltered
	}
	return n, nil
}

var errAltered = fmt.Errorf("%w: it was altered between the ranks: its authentication tag is wrong", allreduce.ErrFrame)

// Checks implements stream.
func (s *sealedStream) Checks() bool { return true }
