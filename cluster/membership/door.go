package membership

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/agrdist/agrdist/internal/gate"
)

// The library reads up to 20 MB of a stream before it decrypts and so knows whether
// its sender has the key. So a stream begins with a proof:
//
//	dialer                          listener
//	                          <--   "AGRG" | nonce 32
//	HMAC-SHA256(key, nonce)   -->
//	                          <--   1
//	the library's stream      <->
const (
	doorMagic   = "AGRG"
	doorPurpose = "agrdist gossip stream\x00"
	nonceSize   = 32
	doorOpen    = 1

	// What strangers may hold at a time, and for how long.
	maxStrangers = 128
	maxFromHost  = 32
	proofTimeout = 5 * time.Second

	// maxStream is how much comes over one stream: the state of 3,000 nodes. A proof can be
	// relayed, and who listens has proved nothing when the dialer reads, so what follows may
	// still be a stranger's until it is decrypted, which is when all of it is in memory.
	maxStream = 2 << 20
)

// errTooLong ends a stream that brings more.
var errTooLong = fmt.Errorf("membership: more than %d bytes in one stream: it is no node's", maxStream)

// bounded is a connection that brings at most left bytes more.
type bounded struct {
	net.Conn

	left int
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooLong
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err //nolint:wrapcheck // a connection passes on what it got
}

// errNoProof is what a dialer finds that has another key than the listener.
var errNoProof = errors.New("membership: it holds another secret or none, or belongs to another run: AGRDIST_CLUSTER_SECRET or cluster.secret_file, and cluster.run_id, must be the same on every node")

// door stands between a transport and the library: it lets through the streams of
// those who know the key.
type door struct {
	memberlist.Transport

	keys    func() [][]byte // the first is in use
	log     *slog.Logger
	gate    *gate.Gate
	streams chan net.Conn
	done    chan struct{}
	wg      sync.WaitGroup
	closing sync.Once
}

func newDoor(t memberlist.Transport, keys func() [][]byte, log *slog.Logger) *door {
	d := &door{
		Transport: t, keys: keys, log: gate.Few(log, 3, time.Minute),
		gate:    gate.New(gate.Config{Limit: maxStrangers, PerHost: maxFromHost, Patience: proofTimeout}),
		streams: make(chan net.Conn), done: make(chan struct{}),
	}
	d.wg.Go(d.watch)
	return d
}

// StreamCh implements memberlist.Transport.
func (d *door) StreamCh() <-chan net.Conn { return d.streams }

// Shutdown implements memberlist.Transport.
func (d *door) Shutdown() error {
	err := d.Transport.Shutdown() // watch takes what it still has
	d.closing.Do(func() { close(d.done) })
	d.gate.Close()
	d.wg.Wait()
	return err //nolint:wrapcheck // a transport passes on what it got
}

func (d *door) watch() {
	for {
		select {
		case conn := <-d.Transport.StreamCh():
			visit := d.gate.Enter(conn)
			d.wg.Go(func() { d.ask(conn, visit) })
		case <-d.done:
			return
		}
	}
}

// ask lets a stream through whose dialer knows the key.
func (d *door) ask(conn net.Conn, visit *gate.Visit) {
	err := d.prove(conn)
	if !visit.Leave() {
		return
	}
	if err != nil {
		d.log.Warn("gossip stream refused", "remote_addr", conn.RemoteAddr().String(), "err", err)
		_ = conn.Close()
		return
	}
	select {
	case d.streams <- &bounded{conn, maxStream}:
	case <-d.done:
		_ = conn.Close()
	}
}

func (d *door) prove(conn net.Conn) error {
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	if _, err := conn.Write(append([]byte(doorMagic), nonce[:]...)); err != nil {
		return fmt.Errorf("membership: ask for a proof: %w", err)
	}
	var got [sha256.Size]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil {
		return fmt.Errorf("membership: no proof that it knows the secret: %w", err)
	}
	if !slices.ContainsFunc(d.keys(), func(key []byte) bool { return hmac.Equal(got[:], doorProof(key, nonce[:])) }) {
		return errors.New("membership: a wrong proof: it holds another secret, or none")
	}
	if _, err := conn.Write([]byte{doorOpen}); err != nil {
		return fmt.Errorf("membership: answer a proof: %w", err)
	}
	return nil
}

func doorProof(key, nonce []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(doorPurpose))
	mac.Write(nonce)
	return mac.Sum(nil)
}

// knock is the dialer's half.
func (d *door) knock(conn net.Conn, timeout time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(timeout))
	var hello [len(doorMagic) + nonceSize]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return fmt.Errorf("membership: %s asks for no proof: %w", conn.RemoteAddr(), err)
	}
	if string(hello[:len(doorMagic)]) != doorMagic {
		return fmt.Errorf("%w (%s)", errNoProof, conn.RemoteAddr())
	}
	var answer [1]byte
	_, err := conn.Write(doorProof(d.keys()[0], hello[len(doorMagic):]))
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	if err != nil || answer[0] != doorOpen {
		return fmt.Errorf("%w (%s)", errNoProof, conn.RemoteAddr())
	}
	return conn.SetDeadline(time.Time{})
}

// dialing adds the proof to what dials.
func (d *door) dialing(dial dialFunc) dialFunc {
	return func(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
		conn, err := dial(ctx, addr, timeout)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		if err := d.knock(conn, timeout); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return &bounded{conn, maxStream}, nil
	}
}
