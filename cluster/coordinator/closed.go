package coordinator

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/peer"
)

// closings notes of each connection whether its other end closed it, as the kernel does
// for a process that has ended. gRPC tells a handler only that its stream is over.
type closings struct {
	net.Listener

	mu    sync.Mutex
	conns map[string]*watchedConn // by the address of the other end
}

type watchedConn struct {
	net.Conn

	of     *closings
	closed atomic.Bool // by the other end
}

func watchClosings(l net.Listener) *closings {
	return &closings{Listener: l, conns: map[string]*watchedConn{}}
}

// Accept implements net.Listener.
func (c *closings) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // a listener passes on what it got
	}
	w := &watchedConn{Conn: conn, of: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[conn.RemoteAddr().String()] = w
	return w, nil
}

// of returns the connection that a call came over; nil: it is not known.
func (c *closings) of(ctx context.Context) *watchedConn {
	p, ok := peer.FromContext(ctx)
	if c == nil || !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns[p.Addr.String()]
}

// Read implements net.Conn.
func (w *watchedConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		w.closed.Store(true)
	}
	return n, err //nolint:wrapcheck // a connection passes on what it got
}

// Close implements net.Conn.
func (w *watchedConn) Close() error {
	w.of.mu.Lock()
	if w.of.conns[w.RemoteAddr().String()] == w {
		delete(w.of.conns, w.RemoteAddr().String())
	}
	w.of.mu.Unlock()
	return w.Conn.Close() //nolint:wrapcheck // a connection passes on what it got
}

// byPeer tells whether the other end closed the connection.
func (w *watchedConn) byPeer() bool { return w != nil && w.closed.Load() }
