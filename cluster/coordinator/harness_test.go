package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// wire is a node's link to the coordinator; while it is cut, bytes wait and
// nobody is told, as in a real partition.
type wire struct {
	mu      sync.Mutex
	open    chan struct{} // closed while the wire carries
	conns   []*wireConn
	current func() *bufconn.Listener
}

func newWire(current func() *bufconn.Listener) *wire {
	w := &wire{open: make(chan struct{}), current: current}
	close(w.open)
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.open)
}

func (w *wire) gate() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

func (w *wire) dial(ctx context.Context, _ string) (net.Conn, error) {
	select {
	case <-w.gate():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	lis := w.current()
	if lis == nil {
		return nil, errors.New("connection refused")
	}
	c, err := lis.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	wc := &wireConn{Conn: c, wire: w, closed: make(chan struct{})}
	w.mu.Lock()
	w.conns = append(w.conns, wc)
	w.mu.Unlock()
	return wc, nil
}

// crash is what the kernel does with the sockets of a dead process.
func (w *wire) crash() {
	w.mu.Lock()
	conns := w.conns
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type wireConn struct {
	net.Conn
	wire   *wire
	once   sync.Once
	closed chan struct{}
}

func (c *wireConn) pass() error {
	select {
	case <-c.wire.gate():
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gate := c.pass(); gate != nil {
		return 0, gate
	}
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	select {
	case <-c.wire.gate():
		return c.Conn.Close()
	default: // the other side does not hear of it
		return nil
	}
}

// bench is a run with its coordinator inside a synctest bubble.
type bench struct {
	t       *testing.T
	config  ServerConfig
	mu      sync.Mutex
	lis     *bufconn.Listener
	server  *Server
	stop    context.CancelCauseFunc
	served  chan error
	began   time.Time
	workers []*testWorker
	clients []*Client
}

// inBubble runs a test with fake time. What it starts ends with it.
func inBubble(t *testing.T, workers int, test func(b *bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, began: time.Now()}
		b.config.Cluster = cluster.DefaultConfig()
		b.config.Cluster.RunID, b.config.Cluster.ConfigHash, b.config.Cluster.Build = "run", "c0ffee", "v1"
		b.config.Cluster.MinWorkers, b.config.Cluster.MaxWorkers = workers, workers
		b.config.JournalPath = filepath.Join(dir, "journal.json")
		t.Cleanup(func() {
			for _, c := range b.clients {
				_ = c.Close()
			}
			b.halt()
			for _, w := range b.workers {
				<-w.ended
			}
		})
		b.start()
		test(b)
	})
}

func (b *bench) listener() *bufconn.Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lis
}

func (b *bench) start() {
	b.t.Helper()
	lis := bufconn.Listen(1 << 20)
	b.config.Listener = lis
	server, err := Listen(b.config)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancelCause(b.t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	b.mu.Lock()
	b.lis = lis
	b.mu.Unlock()
	b.server, b.stop, b.served = server, cancel, served
}

var errHalt = errors.New("halt")

// halt ends the coordinator as a signal would; the run goes on.
func (b *bench) halt() {
	if b.server == nil {
		return
	}
	b.mu.Lock()
	b.lis = nil
	b.mu.Unlock()
	b.stop(errHalt)
	if err := <-b.served; err != nil {
		b.t.Log("coordinator:", err)
	}
	b.server = nil
}

// outcome waits for the run to be over.
func (b *bench) outcome() error {
	err := <-b.served
	b.served <- err // halt takes it once more
	return err
}

func (b *bench) client(w *wire) *Client {
	b.t.Helper()
	c, err := Dial(ClientConfig{Addr: "coordinator:1", Dialer: w.dial, Logger: b.config.Logger})
	require.NoError(b.t, err)
	b.clients = append(b.clients, c)
	return c
}

// node is a machine with its agent.
type testNode struct {
	name    string
	wire    *wire
	session *AgentSession
}

func (b *bench) node(name string, slots int) *testNode {
	b.t.Helper()
	n := &testNode{name: name, wire: newWire(b.listener)}
	s, err := b.client(n.wire).Supervise(b.t.Context(), Node{Name: name, Slots: slots, RunID: "run"})
	require.NoError(b.t, err)
	n.session = s
	return n
}

// testWorker is a worker process: it takes up what it is told at once.
type testWorker struct {
	*Session
	member cluster.Member
	wire   *wire
	client *Client
	ended  chan struct{}

	mu     sync.Mutex
	report cluster.Report
	gens   []cluster.Generation
	aborts []cluster.Abort
}

func (b *bench) member(id, node string, slot int) cluster.Member {
	return cluster.Member{
		ID: cluster.MemberID(id), Node: node, Slot: slot, DataAddr: "10.0.0.1:1", Host: "host-" + node,
		RunID: "run", ConfigHash: "c0ffee", Build: "v1", PID: 100 + slot,
	}
}

func (b *bench) worker(id, node string, slot int) *testWorker {
	b.t.Helper()
	w := &testWorker{
		member: b.member(id, node, slot), wire: newWire(b.listener), ended: make(chan struct{}),
		report: cluster.Report{Step: -1},
	}
	w.client = b.client(w.wire)
	s, err := w.client.Join(b.t.Context(), w.member)
	require.NoError(b.t, err)
	w.Session = s
	b.workers = append(b.workers, w)
	go w.run()
	return w
}

func (w *testWorker) run() {
	defer close(w.ended)
	for {
		select {
		case g := <-w.Generations():
			w.mu.Lock()
			w.gens = append(w.gens, g)
			w.mu.Unlock()
			w.say(func(r *cluster.Report) {
				r.Generation, r.Phase, r.Bucket, r.Broken = g.Number, cluster.PhaseForward, 0, ""
				r.Left = false
			})
		case a := <-w.Aborts():
			w.mu.Lock()
			w.aborts = append(w.aborts, a)
			w.mu.Unlock()
			if a.AfterStep {
				w.say(func(r *cluster.Report) { r.Left = true })
			}
		case <-w.Done():
			return
		}
	}
}

// say changes the worker's report and sends it.
func (w *testWorker) say(change func(*cluster.Report)) {
	w.mu.Lock()
	change(&w.report)
	r := w.report
	w.mu.Unlock()
	w.Report(r)
}

func (w *testWorker) generation() cluster.Generation {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.gens) == 0 {
		return cluster.Generation{}
	}
	return w.gens[len(w.gens)-1]
}

// commit is what the data plane does: all members of the generation commit.
func commit(step int64, workers ...*testWorker) {
	for _, w := range workers {
		w.say(func(r *cluster.Report) {
			r.Step, r.HasState, r.CommitGeneration = step, true, r.Generation
		})
	}
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}

// after lets fake time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func ids(g cluster.Generation) string {
	s := fmt.Sprint(g.Number, ":")
	for _, m := range g.Members {
		s += " " + string(m.ID)
	}
	return s
}

func (b *bench) status() cluster.Status {
	b.t.Helper()
	s, err := b.server.Status(b.t.Context())
	require.NoError(b.t, err)
	return s
}

func exit(w *testWorker, code int, signal string) cluster.Exit {
	return cluster.Exit{Member: w.member.ID, Slot: w.member.Slot, Code: code, Signal: signal}
}
