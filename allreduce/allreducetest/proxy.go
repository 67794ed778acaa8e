package allreducetest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fault is what happens to a direction of a Proxy's connections.
type Fault int

// Faults.
const (
	// None lets bytes pass.
	None Fault = iota
	// Cut closes both directions, as a dying process or host does.
	Cut
	// Stall holds bytes back and keeps the connection open, as a hung process
	// or a partition does.
	Stall
	// Corrupt flips one bit.
	Corrupt
	// Drop loses one byte.
	Drop
	// Slow passes 4 KiB a millisecond.
	Slow
)

func (f Fault) String() string {
	return [...]string{"none", "cut", "stall", "corrupt", "drop", "slow"}[f]
}

// Direction of bytes through a Proxy.
type Direction int

// Directions.
const (
	ToListener Direction = iota
	ToDialer
)

// Proxy stands between a dialer and a listener and injects faults on demand.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup
	done     chan struct{}

	mu    sync.Mutex
	conns []net.Conn
	harm  [2]harm
}

// harm is a fault that happens after some more bytes.
type harm struct {
	fault Fault
	after int
}

// NewProxy starts a proxy for a target address; it ends with the test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // bound to the test by Cleanup
	require.NoError(tb, err)
	p := &Proxy{listener: listener, target: target, done: make(chan struct{})}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		close(p.done)
		_ = listener.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// Addr is the address to dial instead of the target's.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Arm makes a fault happen when after more bytes have passed in a direction.
// Corrupt and Drop happen once, the others stay.
func (p *Proxy) Arm(d Direction, f Fault, after int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harm[d] = harm{f, after}
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target) //nolint:noctx // bound to the test by Cleanup
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(ToListener, out, in) })
		p.wg.Go(func() { p.pump(ToDialer, in, out) })
	}
}

// pump moves bytes of one direction.
func (p *Proxy) pump(d Direction, dst, src net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !p.pass(d, dst, src, buf[:n]) {
			return
		}
		if err != nil {
			if tcp, ok := dst.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			return
		}
	}
}

// pass forwards some bytes, with the fault that is due among them; it returns
// false when nothing more shall pass.
func (p *Proxy) pass(d Direction, dst, src net.Conn, b []byte) bool {
	p.mu.Lock()
	h := &p.harm[d]
	fault := h.fault
	due := fault != None && h.after < len(b)
	at := h.after
	if !due {
		h.after = max(h.after-len(b), 0)
	} else if fault == Corrupt || fault == Drop {
		*h = harm{}
	} else {
		h.after = 0
	}
	p.mu.Unlock()
	if !due {
		_, err := dst.Write(b)
		return err == nil
	}
	switch fault {
	case Cut, Stall:
		_, _ = dst.Write(b[:at])
		if fault == Stall {
			<-p.done
		}
		_ = dst.Close()
		_ = src.Close()
		return false
	case Corrupt:
		b[at] ^= 0x10
	case Drop:
		b = append(b[:at], b[at+1:]...)
	case Slow:
		select {
		case <-p.done:
		case <-time.After(time.Millisecond):
		}
	case None:
	}
	_, err := dst.Write(b)
	return err == nil
}
