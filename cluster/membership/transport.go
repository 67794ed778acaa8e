package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// ErrBind reports an address that cannot be listened on.
var ErrBind = errors.New("membership: bind")

// listen opens the TCP and UDP sockets of the gossip at the same port.
func listen(ip net.IP, port int, lib *memberlist.Config) (*memberlist.NetTransport, error) {
	// With port 0 the kernel picks one that is free for TCP; UDP may be taken.
	tries := 1
	if port == 0 {
		tries = 10
	}
	var err error
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ip.String()}, BindPort: port, Logger: lib.Logger,
		})
		if err == nil {
			return t, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	switch text := err.Error(); {
	case strings.Contains(text, "address already in use"):
		return nil, fmt.Errorf("%w: %s is in use by another process (TCP or UDP): choose another cluster.bind port, "+
			"or 0 for a free one (%w)", ErrBind, net.JoinHostPort(ip.String(), fmt.Sprint(port)), err)
	case strings.Contains(text, "assign requested address"):
		return nil, fmt.Errorf("%w: no interface of this host has address %s (%w)", ErrBind, ip, err)
	default:
		return nil, fmt.Errorf("%w: %w", ErrBind, err)
	}
}

type dialFunc = func(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error)

// cutter adds to a transport what Stop needs: it ends dials and streams under
// way, which the library would wait for.
type cutter struct {
	memberlist.Transport
	dial dialFunc

	mu     sync.Mutex
	closed bool
	ends   map[*func()]struct{}
}

var _ memberlist.NodeAwareTransport = (*cutter)(nil)

func newCutter(t memberlist.Transport) *cutter {
	c := &cutter{Transport: t, ends: map[*func()]struct{}{}}
	c.dial = func(_ context.Context, addr string, timeout time.Duration) (net.Conn, error) {
		return t.DialTimeout(addr, timeout)
	}
	if _, ok := t.(*memberlist.NetTransport); ok {
		c.dial = func(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
			d := net.Dialer{Timeout: timeout}
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return c
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (c *cutter) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return c.WriteTo(b, a.Addr) //nolint:wrapcheck // a transport passes on what it got
}

// DialTimeout implements memberlist.Transport.
func (c *cutter) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (c *cutter) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	forget, ok := c.onCut(cancel)
	if !ok {
		return nil, ErrStopped
	}
	conn, err := c.dial(ctx, a.Addr, timeout)
	forget()
	if err != nil {
		return nil, err
	}
	forget, ok = c.onCut(func() { _ = conn.Close() })
	if !ok {
		_ = conn.Close()
		return nil, ErrStopped
	}
	return &cutConn{Conn: conn, forget: forget}, nil
}

// onCut registers what is to happen at cut; false if that was already.
func (c *cutter) onCut(end func()) (forget func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	c.ends[&end] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.ends, &end)
	}, true
}

// cut ends everything that was dialled and refuses to dial again.
func (c *cutter) cut() {
	c.mu.Lock()
	ends := c.ends
	c.ends, c.closed = map[*func()]struct{}{}, true
	c.mu.Unlock()
	for end := range ends {
		(*end)()
	}
}

type cutConn struct {
	net.Conn
	forget func()
}

func (c *cutConn) Close() error {
	c.forget()
	return c.Conn.Close()
}
