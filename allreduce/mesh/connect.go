package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/allreduce"
)

// Connect joins a generation: it returns when this rank is connected to all
// others, or fails with an *Error that names the peers it lacks. It tries again
// until ctx ends where a peer does not listen yet, and gives up at once where a
// peer refuses. Generations of an endpoint must rise; a failed one may be tried
// again. The caller must Close the group.
func (e *Endpoint) Connect(ctx context.Context, cfg allreduce.GroupConfig) (allreduce.Group, error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	fail := func(peer int, err error) error {
		return &allreduce.Error{Rank: cfg.Rank, Peer: peer, Op: allreduce.OpConnect, Generation: cfg.Generation, Err: err}
	}
	if err := e.begin(cfg.Generation); err != nil {
		return nil, fail(allreduce.NoPeer, err)
	}
	e.gate.Favour(hostsOf(cfg.Peers))
	streams, errs := e.gather(ctx, &cfg)
	peer, err := summarize(ctx, errs)
	e.end(err == nil)
	if err != nil {
		for _, s := range streams {
			if s != nil {
				_ = s.Close()
			}
		}
		return nil, fail(peer, err)
	}
	e.log.InfoContext(ctx, "group connected", "rank", cfg.Rank, "world_size", cfg.Plan.World(),
		"generation", cfg.Generation, "order", cfg.Order.String())
	g := newGroup(cfg, streams, e.log)
	g.flight = e.cfg.Flight
	return g, nil
}

// gather connects to all peers at once; the first error that waiting cannot
// fix stops it.
func (e *Endpoint) gather(ctx context.Context, cfg *allreduce.GroupConfig) ([]stream, []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams, errs := make([]stream, len(cfg.Peers)), make([]error, len(cfg.Peers))
	there := make([]atomic.Bool, len(cfg.Peers))
	there[cfg.Rank].Store(true)
	if cfg.Missing != nil {
		told := make(chan struct{})
		defer func() { cancel(); <-told }()
		go func() {
			defer close(told)
			tellMissing(ctx, there, cfg.Missing)
		}()
	}
	var wg sync.WaitGroup
	for peer := range cfg.Peers {
		if peer == cfg.Rank {
			continue
		}
		wg.Go(func() {
			if peer < cfg.Rank {
				streams[peer], errs[peer] = e.dial(ctx, cfg, peer)
			} else {
				streams[peer], errs[peer] = e.admit(ctx, cfg, peer)
			}
			if errs[peer] != nil {
				cancel()
			}
			there[peer].Store(errs[peer] == nil)
		})
	}
	wg.Wait()
	return streams, errs
}

// missingEvery is the pause between two words on who is missing.
const missingEvery = time.Second

func tellMissing(ctx context.Context, there []atomic.Bool, tell func(peer int)) {
	tick := time.NewTicker(missingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for peer := range there {
			if !there[peer].Load() {
				tell(peer)
				break
			}
		}
	}
}

// hostsOf returns the addresses without their ports.
func hostsOf(addrs []string) (hosts []string) {
	for _, a := range addrs {
		if host, _, err := net.SplitHostPort(a); err == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// summarize makes one error of the peers' errors: the first real one, or the
// list of the ranks that are missing.
func summarize(ctx context.Context, errs []error) (peer int, err error) {
	var missing []string
	peer = allreduce.NoPeer
	for p, e := range errs {
		switch {
		case e == nil:
		case errors.Is(e, allreduce.ErrRefused), errors.Is(e, allreduce.ErrMismatch), errors.Is(e, allreduce.ErrClosed), errors.Is(e, errNotUs):
			return p, e
		default:
			if peer == allreduce.NoPeer {
				peer = p
			}
			missing = append(missing, fmt.Sprintf("rank %d (%v)", p, e))
		}
	}
	if peer == allreduce.NoPeer {
		return allreduce.NoPeer, nil
	}
	cause := context.Cause(ctx)
	if cause == nil {
		return peer, errs[peer]
	}
	return peer, fmt.Errorf("no connection to %s: %w", strings.Join(missing, ", "), cause)
}

// admit waits for the connection of a higher rank.
func (e *Endpoint) admit(ctx context.Context, cfg *allreduce.GroupConfig, peer int) (stream, error) {
	for {
		g, err := e.claim(ctx, seat{cfg.Generation, peer})
		if err != nil {
			if errors.Is(err, allreduce.ErrClosed) {
				return nil, err
			}
			return nil, errors.New("it has not dialled this rank yet")
		}
		if reason := disagreement(g.hello, cfg); reason != "" {
			dismiss(g, statusRefused, reason)
			return nil, fmt.Errorf("%w: %s", allreduce.ErrMismatch, reason)
		}
		s, err := e.settle(ctx, g)
		if err == nil {
			return s, nil
		}
		// The dialer has gone while it was parked; another try of it may come.
		_ = g.conn.Close()
		e.log.DebugContext(ctx, "parked connection was dead", "peer", peer, "generation", cfg.Generation, "err", err)
	}
}

// disagreement returns in what a dialer's view of the group differs, or "".
func disagreement(h *hello, cfg *allreduce.GroupConfig) string {
	switch mine := termsOf(cfg); {
	case h.terms != mine:
		return fmt.Sprintf("rank %d has %v; rank %d has %v", h.dialer, h.terms, cfg.Rank, mine)
	case h.listener != cfg.Rank:
		return fmt.Sprintf("rank %d dialled rank %d and reached rank %d", h.dialer, h.listener, cfg.Rank)
	default:
		return ""
	}
}

// settle ends the handshake of a claimed connection.
func (e *Endpoint) settle(ctx context.Context, g *guest) (stream, error) {
	_ = g.conn.SetDeadline(time.Now().Add(handshakeTimeout))
	stop := context.AfterFunc(ctx, func() { _ = g.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var offer *shmOffer
	if e.cfg.Transport == TransportAuto {
		offer = offerShm(g.conn)
	}
	choice, err := byte(choiceTCP), writeAll(g.conn, (&verdict{text: offer.encode()}).encode(&g.keys))
	if err == nil {
		choice, err = readReady(g.conn, &g.keys)
	}
	if err == nil {
		err = tune(ctx, stop, g.conn)
	}
	switch {
	case err != nil:
		offer.withdraw()
		return nil, err
	case choice == choiceShm && offer != nil:
		return offer.accept(g.conn), nil
	default:
		offer.withdraw()
		return newTCPStream(g.conn, e.cfg.Security, g.keys.listen, g.keys.dialer), nil
	}
}

// Pauses between tries to dial a peer.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// dial connects to a lower rank and tries again until ctx ends.
func (e *Endpoint) dial(ctx context.Context, cfg *allreduce.GroupConfig, peer int) (stream, error) {
	var last error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		s, err := e.dialOnce(ctx, cfg, peer)
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, allreduce.ErrRefused), errors.Is(err, errNotUs):
			return nil, err
		case last == nil, !isTimeout(err): // ctx's own end says less than what came before
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, last
		case <-e.done:
			return nil, allreduce.ErrClosed
		case <-time.After(pause):
		}
	}
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout() || errors.Is(err, context.Canceled)
}

func (e *Endpoint) dialOnce(ctx context.Context, cfg *allreduce.GroupConfig, peer int) (stream, error) {
	dialer := net.Dialer{Timeout: handshakeTimeout}
	c, err := dialer.DialContext(ctx, "tcp", cfg.Peers[peer])
	if err != nil {
		return nil, err
	}
	conn := c.(*net.TCPConn)
	if !e.track(conn) {
		_ = conn.Close()
		return nil, allreduce.ErrClosed
	}
	defer e.untrack(conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s, err := e.introduce(ctx, conn, cfg, peer)
	if err == nil {
		err = tune(ctx, stop, conn)
	}
	if err != nil {
		if s != nil {
			_ = s.Close()
		}
		_ = conn.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%s closed the connection during the handshake: %w", cfg.Peers[peer], err)
		}
		return nil, err
	}
	return s, nil
}

// introduce does the dialer's half of the handshake.
func (e *Endpoint) introduce(ctx context.Context, conn *net.TCPConn, cfg *allreduce.GroupConfig, peer int) (stream, error) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	addr := cfg.Peers[peer]
	own, secrets := newEphemeral(), e.accepted()
	h := hello{
		secret: len(secrets) > 0, security: e.cfg.Security, generation: cfg.Generation,
		dialer: cfg.Rank, listener: peer, terms: termsOf(cfg), nonce: own.nonce(), run: e.cfg.RunID,
	}
	raw := h.encode()
	if err := writeAll(conn, raw); err != nil {
		return nil, err
	}
	c, err := readChallenge(conn)
	if err != nil {
		return nil, err
	}
	if c.status != statusOK {
		return nil, fmt.Errorf("%w at %s: %s", allreduce.ErrRefused, addr, clip(c.reason))
	}
	secret, ok := proven(secrets, c, raw)
	if !ok {
		return nil, fmt.Errorf("%w: %s does not know this run's secret", allreduce.ErrRefused, addr)
	}
	if err := writeAll(conn, encodeProof(proof(secret, roleDialer, raw, c.nonce))); err != nil {
		return nil, err
	}
	k, err := own.derive(secret, raw, c.nonce, c.nonce)
	if err != nil {
		return nil, err
	}
	// From here on the listener takes its time: until it joins the generation.
	if err := e.unhurry(ctx, conn); err != nil {
		return nil, err
	}
	v, err := readVerdict(conn, &k)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, errNotJoined
	case err != nil:
		return nil, err
	case v.status == statusRefused:
		return nil, fmt.Errorf("%w at %s: %s", allreduce.ErrRefused, addr, clip(string(v.text)))
	case v.status != statusOK:
		return nil, fmt.Errorf("%s has no room: %s", addr, clip(string(v.text)))
	}
	if len(v.text) > 0 && e.cfg.Transport == TransportAuto {
		s, err := takeShm(conn, v.text)
		if err == nil {
			return s, writeAll(conn, encodeReady(choiceShm, &k))
		}
		e.log.DebugContext(ctx, "no shared memory with a peer of the same host", "peer", peer, "err", err)
	}
	return newTCPStream(conn, e.cfg.Security, k.dialer, k.listen), writeAll(conn, encodeReady(choiceTCP, &k))
}

var errNotJoined = errors.New("allreduce: it has not joined the generation yet")

// unhurry lifts a connection's deadline, unless ctx or the endpoint has ended.
func (e *Endpoint) unhurry(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select { // they may have set theirs just before
	case <-e.done:
		return allreduce.ErrClosed
	default:
		return ctx.Err()
	}
}

// What a connection may hold in the kernel, in bytes and direction; the kernel
// may grant less. Across hosts a few segments keep the wire busy, within one
// host bytes should still be in the cache when they are read.
const (
	socketBuffer = 4 << 20
	localBuffer  = 256 << 10
)

// tune prepares a connection whose handshake has ended. stop undoes the watch
// over ctx.
func tune(ctx context.Context, stop func() bool, conn *net.TCPConn) error {
	if !stop() {
		return context.Cause(ctx)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	size := socketBuffer
	if sameHost(conn) {
		size = localBuffer
	}
	_ = conn.SetReadBuffer(size)
	_ = conn.SetWriteBuffer(size)
	return nil
}

// sameHost tells whether a connection does not leave this host.
func sameHost(conn net.Conn) bool {
	local, ok1 := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	return ok1 && ok2 && (remote.IP.IsLoopback() || remote.IP.Equal(local.IP))
}

// Transport says how ranks of one host talk.
type Transport uint8

// Transports.
const (
	// TransportAuto uses shared memory between ranks of one host where both can
	// map it, TCP otherwise.
	TransportAuto Transport = iota
	// TransportTCP always uses TCP.
	TransportTCP
)

func (t Transport) String() string {
	if t == TransportTCP {
		return "tcp"
	}
	return "auto"
}
