package mesh

import (
	"io"
	"net"
	"time"
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
