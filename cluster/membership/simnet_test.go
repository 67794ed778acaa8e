package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// simNet is a network in memory. It delivers at once, drops what cut says, and
// runs inside a synctest bubble, where minutes of gossip take milliseconds.
type simNet struct {
	mu    sync.Mutex
	hosts map[string]*simHost
	cut   func(from, to string) bool

	settle sync.Once
}

// simHost implements memberlist.Transport at one address.
type simHost struct {
	net     *simNet
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

var _ memberlist.Transport = (*simHost)(nil)

func (n *simNet) host(addr string) *simHost {
	h := &simHost{
		net: n, addr: addr, packets: make(chan *memberlist.Packet, 256),
		streams: make(chan net.Conn), done: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*simHost{}
	}
	n.hosts[addr] = h
	return h
}

// partition replaces the rule of what is cut; nil cuts nothing.
func (n *simNet) partition(cut func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *simNet) reach(from, to string) *simHost {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut != nil && n.cut(from, to) {
		return nil
	}
	return n.hosts[to]
}

func (h *simHost) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a, err := netip.ParseAddrPort(h.addr)
	return a.Addr().AsSlice(), int(a.Port()), err
}

func (h *simHost) WriteTo(b []byte, addr string) (time.Time, error) {
	if to := h.net.reach(h.addr, addr); to != nil {
		from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(h.addr))
		select {
		case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: from, Timestamp: time.Now()}:
		case <-to.done:
		default: // full, as UDP
		}
	}
	return time.Now(), nil
}

func (h *simHost) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := h.net.reach(h.addr, addr)
	if to == nil {
		select { // packets vanish, so nothing answers
		case <-time.After(timeout):
		case <-h.done:
		}
		return nil, fmt.Errorf("simnet: dial %s: timeout", addr)
	}
	near, far := net.Pipe()
	select {
	case to.streams <- far:
		return near, nil
	case <-time.After(timeout):
		return nil, fmt.Errorf("simnet: dial %s: timeout", addr)
	case <-to.done:
		return nil, fmt.Errorf("simnet: dial %s: connection refused", addr)
	}
}

func (h *simHost) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *simHost) StreamCh() <-chan net.Conn           { return h.streams }
func (h *simHost) Shutdown() error                     { h.once.Do(func() { close(h.done) }); return nil }

// simResolver answers from a table that tests change.
type simResolver struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
	asked int
	takes time.Duration // until it answers
	err   error         // what it answers instead
}

var errNoSuchHost = errors.New("no such host")

func (r *simResolver) set(name string, ips ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = map[string][]netip.Addr{}
	}
	r.names[name] = nil
	for _, ip := range ips {
		r.names[name] = append(r.names[name], netip.MustParseAddr(ip))
	}
}

// fault makes it slow, or fail.
func (r *simResolver) fault(takes time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.err = takes, err
}

// count returns how often it was asked.
func (r *simResolver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *simResolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.takes > 0 {
		takes := r.takes
		r.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
		}
		r.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	ips, ok := r.names[host]
	if !ok {
		return nil, errNoSuchHost
	}
	return ips, nil
}

const seedAddr = "10.0.0.1:7946"

func simAddr(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }

// begin starts node i of the run at its address.
func begin(t *testing.T, n *simNet, i int, change func(*Config)) *Membership {
	t.Helper()
	cfg := DefaultConfig()
	cfg.RunID = "run"
	cfg.Node = fmt.Sprintf("node%d", i)
	cfg.Seeds = []string{seedAddr}
	cfg.Meta = Meta{Host: fmt.Sprintf("host%d", i), Devices: i + 1}
	if change != nil {
		change(&cfg)
	}
	if cfg.Transport == nil {
		cfg.Transport = n.host(simAddr(i))
	}
	n.settle.Do(func() {
		// Runs last, after all are stopped: probes under way time out, as the
		// bubble wants no goroutine left.
		t.Cleanup(func() { time.Sleep(time.Minute) })
	})
	m, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	return m
}

// group starts n nodes and waits until each knows all.
func group(t *testing.T, sim *simNet, n int) []*Membership {
	t.Helper()
	var ms []*Membership
	for i := range n {
		ms = append(ms, begin(t, sim, i, nil))
	}
	awaitMembers(t, ms, n)
	return ms
}

func awaitMembers(t *testing.T, ms []*Membership, n int) {
	t.Helper()
	within(t, time.Minute, func() bool {
		for _, m := range ms {
			if len(m.Members()) != n {
				return false
			}
		}
		return true
	})
}

// within polls in virtual time.
func within(t *testing.T, limit time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		require.Less(t, time.Since(begin), limit, "not within %v", limit)
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begin)
}

// await reads events until one is of the kind and about the named node.
func await(t *testing.T, m *Membership, kind EventKind, node string) Event {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case e, ok := <-m.Events():
			require.True(t, ok, "events closed")
			if e.Kind == kind && e.Node.Meta.Node == node {
				return e
			}
		case <-timeout:
			require.Fail(t, "no such event", "%v %s", kind, node)
		}
	}
}
