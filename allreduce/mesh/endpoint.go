package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/internal/gate"
)

// Limits of an endpoint.
const (
	handshakeTimeout = 10 * time.Second // of the part that waits for nobody
	parkTimeout      = 2 * time.Minute  // for a connection whose generation nobody asks for
	maxParked        = 4096
	maxStrangers     = 256 // in their handshakes
	maxFromHost      = 64  // of them, from one address
	minSecret        = 16  // bytes
)

// EndpointConfig configures an Endpoint.
type EndpointConfig struct {
	// Addr is the TCP address to listen on; "" is 127.0.0.1:0. Port 0 takes a
	// free port, Addr() says which. Anything but loopback needs a Secret.
	Addr string
	// RunID names the run, at most MaxRunID bytes: ranks of different runs
	// refuse each other.
	RunID string
	// Secret, of 16 bytes or more, is shared by all ranks of the run: both ends
	// of a connection prove that they know it. Empty: no proof is asked for. See Rotate.
	Secret []byte
	// Transport says how ranks of the same host talk.
	Transport Transport
	// Security says what protects gradients on the network; the same on all ranks.
	Security Security
	// Logger may be nil.
	Logger *slog.Logger
	// Flight records which operations begin and end, and for whom they wait; nil: nothing.
	Flight *flight.Recorder
}

// Endpoint is a process's listener for the connections of its peers, kept over
// generations. A connection for a generation that this process has not yet
// asked for is parked until it does; one for an older generation is refused.
type Endpoint struct {
	cfg      EndpointConfig
	log      *slog.Logger
	listener *net.TCPListener
	wg       sync.WaitGroup
	gate     *gate.Gate
	refusals *slog.Logger // what strangers can cause

	mu         sync.Mutex
	closed     bool
	done       chan struct{}
	secrets    [][]byte // the first is in use; none: no proof is asked for
	generation uint64   // the newest that Connect was called for
	connecting bool
	connected  bool // Connect has succeeded for generation
	parked     map[seat]*guest
	changed    chan struct{} // closed and replaced when parked changes
	open       map[net.Conn]struct{}
}

// seat is a peer's place in a generation.
type seat struct {
	generation uint64
	rank       int
}

// guest is a parked connection: it has proved what it must.
type guest struct {
	conn    *net.TCPConn
	hello   *hello
	secret  []byte // that it proved to know; nil: none was asked for
	keys    keys
	expires *time.Timer
}

// Listen starts an endpoint. The caller must Close it.
func Listen(cfg EndpointConfig) (*Endpoint, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if len(cfg.RunID) > MaxRunID {
		return nil, fmt.Errorf("allreduce: run id of %d bytes, at most %d are allowed", len(cfg.RunID), MaxRunID)
	}
	if n := len(cfg.Secret); n > 0 && n < minSecret {
		return nil, fmt.Errorf("allreduce: secret of %d bytes, want at least %d", n, minSecret)
	}
	var err error
	if cfg.Security, err = cfg.Security.resolve(len(cfg.Secret) > 0); err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("allreduce: listen address %q: %w", cfg.Addr, err)
	}
	if len(cfg.Secret) == 0 && !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("allreduce: listening on %q lets other hosts in, which needs a secret shared by all ranks; set one, or listen on 127.0.0.1:0", cfg.Addr)
	}
	listener, err := net.ListenTCP("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("allreduce: listen on %s: another process has this port; use port 0 to get a free one (peers learn it from the coordinator), or stop the process that `ss -ltnp sport = :%d` shows: %w", cfg.Addr, addr.Port, err)
	case err != nil:
		return nil, fmt.Errorf("allreduce: listen on %s: %w", cfg.Addr, err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{
		cfg: cfg, log: log, listener: listener,
		gate:     gate.New(gate.Config{Limit: maxStrangers, PerHost: maxFromHost, Patience: handshakeTimeout}),
		refusals: gate.Few(log, 3, time.Minute), done: make(chan struct{}),
		parked: make(map[seat]*guest), changed: make(chan struct{}),
		open: make(map[net.Conn]struct{}),
	}
	if len(cfg.Secret) > 0 {
		e.secrets = [][]byte{bytes.Clone(cfg.Secret)}
	}
	e.cfg.Secret = nil // secrets has it
	e.wg.Go(e.accept)
	return e, nil
}

// Addr returns the address that the endpoint is bound to, with its real port.
func (e *Endpoint) Addr() string { return e.listener.Addr().String() }

// Close stops listening and drops parked connections; a Connect that is under
// way fails. Groups that are connected live on. It may be called more than
// once.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.done)
		for key, g := range e.parked {
			e.drop(key, g)
		}
		for c := range e.open {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	}
	e.mu.Unlock()
	e.gate.Close()
	err := e.listener.Close()
	e.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("allreduce: close the listener: %w", err)
	}
	return nil
}

// accept takes connections until the endpoint closes.
func (e *Endpoint) accept() {
	for {
		conn, err := e.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			e.log.Warn("accept failed", "err", err)
			select { // out of file descriptors, most likely: let some close
			case <-e.done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		visit := e.gate.Enter(conn)
		e.wg.Go(func() { e.welcome(conn, visit) })
	}
}

// welcome does the listener's half of the handshake and parks the connection.
func (e *Endpoint) welcome(conn *net.TCPConn, visit *gate.Visit) {
	g, err := e.examine(conn)
	if !visit.Leave() {
		return // the gate has closed it; the dialer tries again
	}
	if err != nil {
		e.refusals.Info("connection refused", "remote_addr", conn.RemoteAddr().String(), "err", err)
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	e.park(g)
}

// examine reads the hello, exchanges proofs, and tells the dialer what is
// wrong with them.
func (e *Endpoint) examine(conn *net.TCPConn) (*guest, error) {
	h, raw, err := readHello(conn)
	if err != nil {
		return nil, fmt.Errorf("allreduce: read the hello: %w", err)
	}
	refuse := func(reason string) error {
		_ = writeAll(conn, (&challenge{status: statusRefused, reason: clip(reason)}).encode())
		return errors.New("allreduce: " + reason)
	}
	var secret []byte
	if all := e.accepted(); len(all) > 0 {
		secret = all[0]
	}
	switch {
	case h.run != e.cfg.RunID:
		return nil, refuse(fmt.Sprintf("run %q is not the run of this rank", h.run))
	case h.secret && secret == nil:
		return nil, refuse("the dialer has a secret and this rank has none")
	case !h.secret && secret != nil:
		return nil, refuse("this rank asks for a secret and the dialer has none")
	case h.security != e.cfg.Security:
		return nil, refuse(fmt.Sprintf("the dialer protects gradients by %q, this rank by %q; allreduce.security must be the same on all nodes", h.security, e.cfg.Security))
	}
	own := newEphemeral()
	c := challenge{nonce: own.nonce()}
	c.proof = proof(secret, roleListener, raw, c.nonce)
	if err := writeAll(conn, c.encode()); err != nil {
		return nil, fmt.Errorf("allreduce: write the challenge: %w", err)
	}
	got, err := readProof(conn)
	if err != nil {
		return nil, fmt.Errorf("allreduce: rank %d did not prove that it knows the secret: %w", h.dialer, err)
	}
	if !proofsEqual(got, proof(secret, roleDialer, raw, c.nonce)) {
		return nil, fmt.Errorf("allreduce: rank %d has a wrong secret", h.dialer)
	}
	k, err := own.derive(secret, raw, c.nonce, h.nonce)
	if err != nil {
		return nil, err
	}
	return &guest{conn: conn, hello: h, secret: secret, keys: k}, nil
}

// park keeps a connection until its generation is asked for. A second one for
// the same seat replaces the first: its dialer has given up.
func (e *Endpoint) park(g *guest) {
	key := seat{g.hello.generation, g.hello.dialer}
	e.mu.Lock()
	defer e.mu.Unlock()
	answer, reason := statusOK, ""
	switch {
	case e.closed:
		answer, reason = statusBusy, "this rank is closing"
	case !e.accepts(g):
		answer, reason = statusBusy, "the secret was replaced just now"
	case key.generation < e.generation:
		answer, reason = statusRefused, fmt.Sprintf("generation %d is over, this rank is in generation %d", key.generation, e.generation)
	case key.generation == e.generation && e.connected:
		answer, reason = statusRefused, fmt.Sprintf("generation %d is complete, rank %d is already connected", key.generation, key.rank)
	case len(e.parked) >= maxParked && e.parked[key] == nil:
		answer, reason = statusBusy, "too many connections wait for generations to come"
	}
	if answer != statusOK {
		e.refusals.Warn("member refused", "peer", key.rank, "generation", key.generation, "reason", reason)
		dismiss(g, answer, reason)
		return
	}
	if old := e.parked[key]; old != nil {
		e.drop(key, old)
	}
	e.parked[key] = g
	g.expires = time.AfterFunc(parkTimeout, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.parked[key] == g {
			delete(e.parked, key)
			dismiss(g, statusBusy, fmt.Sprintf("this rank was not asked to join generation %d within %v", key.generation, parkTimeout))
		}
	})
	close(e.changed)
	e.changed = make(chan struct{})
}

// drop closes a parked connection; e.mu is held.
func (e *Endpoint) drop(key seat, g *guest) {
	delete(e.parked, key)
	g.expires.Stop()
	_ = g.conn.Close()
}

// dismiss refuses a connection that has passed the challenge. The few bytes fit
// into any socket buffer, so this does not block.
func dismiss(g *guest, s status, reason string) {
	_ = g.conn.SetDeadline(time.Now().Add(time.Second))
	_ = writeAll(g.conn, (&verdict{status: s, text: []byte(clip(reason))}).encode(&g.keys))
	_ = g.conn.Close()
}

// track registers a connection whose deadline Close shall cut short.
func (e *Endpoint) track(c net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.open[c] = struct{}{}
	return true
}

func (e *Endpoint) untrack(c net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, c)
}

// begin opens a generation: older parked connections are refused.
func (e *Endpoint) begin(generation uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return allreduce.ErrClosed
	case e.connecting:
		return fmt.Errorf("allreduce: generation %d is being connected already", e.generation)
	case generation < e.generation:
		return fmt.Errorf("allreduce: generation %d is over, generation %d has begun", generation, e.generation)
	case generation == e.generation && e.connected:
		return fmt.Errorf("allreduce: generation %d has been connected already", generation)
	}
	e.generation, e.connecting, e.connected = generation, true, false
	for key, g := range e.parked {
		if key.generation < generation {
			delete(e.parked, key)
			g.expires.Stop()
			dismiss(g, statusRefused, fmt.Sprintf("generation %d is over, this rank is in generation %d", key.generation, generation))
		}
	}
	return nil
}

// end closes the attempt that begin opened.
func (e *Endpoint) end(ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.connecting, e.connected = false, ok
}

// claim waits for the parked connection of a peer.
func (e *Endpoint) claim(ctx context.Context, key seat) (*guest, error) {
	for {
		e.mu.Lock()
		g, changed := e.parked[key], e.changed
		if g != nil {
			delete(e.parked, key)
			g.expires.Stop()
		}
		e.mu.Unlock()
		if g != nil {
			return g, nil
		}
		select {
		case <-changed:
		case <-e.done:
			return nil, allreduce.ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
