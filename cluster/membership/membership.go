package membership

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/internal/gate"
)

// maxGossipLines is how many lines of one level the library may log in a minute:
// strangers cause them as they like.
const maxGossipLines = 30

// ErrStopped reports an operation on a stopped Membership.
var ErrStopped = errors.New("membership: stopped")

// Membership is this process's part in the gossip of a run.
type Membership struct {
	cfg   Config
	name  string
	addr  string // advertised gossip address
	log   *slog.Logger
	list  *memberlist.Memberlist
	net   *cutter
	keys  *memberlist.Keyring // nil: no key
	queue *eventQueue

	done    chan struct{}      // closed by Stop
	cancel  context.CancelFunc // ends the joiner
	joiners sync.WaitGroup
	pump    sync.WaitGroup

	life    sync.Mutex // serialises Leave, Stop and UpdateMeta
	stopped bool
	left    bool

	mu      sync.Mutex
	meta    []byte          // own, encoded
	typed   Meta            // own
	members map[string]Node // live, by name; includes this process
	lost    map[string]lost // failed, by name
	seeds   map[string]error
	changed chan struct{} // closed and replaced when anything above changes
}

// lost is a node that failed, kept for a while so that a healed partition joins.
type lost struct {
	node  string // Meta.Node
	addr  string
	since time.Time
}

// Start binds the sockets and starts to gossip and to join the seeds. It returns
// as soon as it listens, not when somebody was found: see FindCoordinator. The
// context bounds Start alone (looking up the bind address).
func Start(ctx context.Context, cfg Config) (*Membership, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	meta, err := cfg.Meta.Encode()
	if err != nil {
		return nil, err
	}
	m := &Membership{
		cfg: cfg, name: cfg.Node + "-" + suffix(), queue: newEventQueue(), done: make(chan struct{}),
		meta: meta, typed: cfg.Meta,
		members: map[string]Node{}, lost: map[string]lost{}, seeds: map[string]error{}, changed: make(chan struct{}),
	}
	m.log = cfg.Logger.With(slog.String("node", m.name))
	if err := m.create(ctx); err != nil {
		return nil, err
	}
	m.addr = m.list.LocalNode().Address()
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	m.pump.Go(func() { m.queue.run(m.done) })
	m.joiners.Go(func() { m.joinLoop(run) })
	m.log.InfoContext(ctx, "gossip started", slog.String("addr", m.addr), slog.Any("seeds", cfg.Seeds),
		slog.Bool("encrypted", len(cfg.SecretKey) > 0))
	return m, nil
}

// create opens the transport and the library's state machine on it.
func (m *Membership) create(ctx context.Context) error {
	cfg, lib := m.cfg, memberlist.DefaultLANConfig()
	lib.Logger = slog.NewLogLogger(levelHandler{gate.Few(m.log, maxGossipLines, time.Minute).Handler()}, slog.LevelInfo)
	var transport memberlist.Transport
	if transport = cfg.Transport; transport == nil {
		t, ip, port, err := m.bind(ctx, lib)
		if err != nil {
			return err
		}
		transport, lib.AdvertiseAddr, lib.AdvertisePort = t, ip.String(), port
	}
	m.net = newCutter(transport)
	if len(cfg.SecretKey) > 0 {
		var err error
		if m.keys, err = memberlist.NewKeyring(cfg.AlsoKeys, cfg.SecretKey); err != nil {
			_ = transport.Shutdown()
			return fmt.Errorf("membership: keys: %w", err)
		}
		door := newDoor(transport, m.keys.GetKeys, m.log)
		m.net.Transport, m.net.dial = door, door.dialing(m.net.dial)
		transport = door
	}
	lib.Transport = m.net
	lib.Name, lib.Label, lib.Keyring = m.name, cfg.RunID, m.keys
	lib.ProbeInterval, lib.ProbeTimeout, lib.SuspicionMult = cfg.ProbeInterval, cfg.ProbeTimeout, cfg.SuspicionMult
	lib.TCPTimeout = cfg.StreamTimeout
	lib.PushPullInterval = 15 * time.Second
	lib.EnableCompression = false // the packets are small; no decompressor, no bomb
	lib.Delegate, lib.Events, lib.Alive = callbacks{m}, callbacks{m}, callbacks{m}
	list, err := memberlist.Create(lib)
	if err != nil {
		_ = transport.Shutdown()
		return fmt.Errorf("membership: start: %w", err)
	}
	m.list = list
	return nil
}

// bind opens the sockets and returns the address to advertise.
func (m *Membership) bind(ctx context.Context, lib *memberlist.Config) (*memberlist.NetTransport, net.IP, int, error) {
	cfg := m.cfg
	bindIP, err := m.lookupOne(ctx, cfg.BindHost)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := security.RequireSecretBeyondLoopback(bindIP.String(), cfg.SecretKey); err != nil {
		return nil, nil, 0, fmt.Errorf("membership: %w", err)
	}
	var advertiseIP net.IP
	if cfg.AdvertiseHost != "" {
		if advertiseIP, err = m.lookupOne(ctx, cfg.AdvertiseHost); err != nil {
			return nil, nil, 0, err
		}
	}
	t, err := listen(bindIP, cfg.BindPort, lib)
	if err != nil {
		return nil, nil, 0, err
	}
	ip, err := advertised(bindIP, advertiseIP)
	if err != nil {
		_ = t.Shutdown()
		return nil, nil, 0, err
	}
	port := cfg.AdvertisePort
	if port == 0 {
		port = t.GetAutoBindPort()
	}
	return t, ip, port, nil
}

// lookupOne returns the first address of host.
func (m *Membership) lookupOne(ctx context.Context, host string) (net.IP, error) {
	if ip := net.ParseIP(host); ip != nil {
		return ip, nil
	}
	ips, err := m.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("%w: look up %q: %w", ErrBind, host, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%w: %q has no address", ErrBind, host)
	}
	return net.IP(ips[0].Unmap().AsSlice()), nil
}

// suffix makes a node's name unique among its incarnations.
func suffix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// Name returns this node's name: Config.Node plus the incarnation's suffix.
func (m *Membership) Name() string { return m.name }

// Addr returns the gossip address that others dial, IP:PORT: a seed for them.
func (m *Membership) Addr() string { return m.addr }

// Port returns the advertised gossip port.
func (m *Membership) Port() int {
	_, text, _ := net.SplitHostPort(m.addr)
	port, _ := strconv.Atoi(text)
	return port
}

// Members returns all live nodes, this one included, sorted by name.
func (m *Membership) Members() []Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := make([]Node, 0, len(m.members))
	for _, n := range m.members {
		nodes = append(nodes, n)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
	return nodes
}

// Events returns the channel of changes, this node's own included. A slow
// consumer sees fewer events, never stale ones: each node has at most one event
// pending, the latest. Stop closes the channel.
func (m *Membership) Events() <-chan Event { return m.queue.out }

// UpdateMeta changes what this node says about itself. It does not wait for the
// news to spread. An empty Node keeps Config.Node.
func (m *Membership) UpdateMeta(meta Meta) error {
	if meta.Node == "" {
		meta.Node = m.cfg.Node
	}
	m.life.Lock()
	defer m.life.Unlock()
	if m.stopped || m.left {
		return ErrStopped
	}
	return m.announce(meta, time.Nanosecond)
}

// announce stores meta and queues the broadcast, then waits up to wait for it to
// have gone out. The caller holds life.
func (m *Membership) announce(meta Meta, wait time.Duration) error {
	data, err := meta.Encode()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.meta, m.typed = data, meta
	m.mu.Unlock()
	// The only error is that the wait timed out; the broadcast stays queued.
	_ = m.list.UpdateNode(wait)
	return nil
}

// Leave tells the others that this node goes, so that they need not detect it.
// It waits for the message to go out, at most for timeout, and leaves the
// sockets open for Stop.
func (m *Membership) Leave(timeout time.Duration) error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.stopped || m.left {
		return nil
	}
	m.left = true
	m.cancel() // no more joins; one under way cannot bring a node back that left
	deadline := time.Now().Add(timeout)
	m.mu.Lock()
	meta := m.typed
	m.mu.Unlock()
	meta.leaving, meta.CoordinatorAddr = true, ""
	if err := m.announce(meta, max(timeout/2, time.Nanosecond)); err != nil {
		return err
	}
	if err := m.list.Leave(max(time.Until(deadline), time.Nanosecond)); err != nil {
		return fmt.Errorf("membership: leave: %w", err)
	}
	m.log.Info("left the gossip")
	return nil
}

// Stop ends the gossip and closes the sockets and the events. It is idempotent.
// Without a Leave before it, the others take it for a failure.
func (m *Membership) Stop() {
	m.cancel()
	m.life.Lock()
	defer m.life.Unlock()
	if m.stopped {
		return
	}
	m.stopped = true
	close(m.done)
	m.net.cut()
	_ = m.list.Shutdown() // it only logs what its transport says
	m.joiners.Wait()
	m.pump.Wait()
}
