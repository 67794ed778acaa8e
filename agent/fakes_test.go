package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/worker/spec"
)

// world is everything around one agent. What the agent does to it is written
// down; what happens to the agent is up to the test.
type world struct {
	t     *testing.T
	agent *Agent
	stop  chan os.Signal

	mu       sync.Mutex
	did      []string
	members  []membership.Node
	running  map[int]cluster.MemberID
	newest   map[int]cluster.MemberID // of the processes ever started
	startErr error
	verdict  cluster.Verdict
	status   cluster.Status

	changed chan membership.Event
	exits   chan supervise.Exit
	kills   chan cluster.Kill
	done    chan struct{}
	drained chan struct{}
	err     error
	admit   chan error     // answers Register
	serve   chan error     // ends Serve
	run     *config.Config // of the coordinator
	adopted error          // answers Adopted

	ended  chan struct{}
	end    cluster.End
	endErr error
}

// begin runs an agent with two slots in a world of its own; it ends with the test.
func begin(t *testing.T, set ...string) *world {
	t.Helper()
	c, err := config.Load(config.Source{Set: append([]string{"cluster.workers=2", "cluster.nodes=1:2"}, set...)})
	require.NoError(t, err)
	w := &world{
		t: t, stop: make(chan os.Signal, 2), running: map[int]cluster.MemberID{}, newest: map[int]cluster.MemberID{},
		changed: make(chan membership.Event, 8), exits: make(chan supervise.Exit, 8), kills: make(chan cluster.Kill, 8),
		run: c, done: make(chan struct{}), drained: make(chan struct{}), admit: make(chan error, 1), serve: make(chan error, 1), ended: make(chan struct{}),
	}
	w.agent = newAgent(Config{
		Run: c, RunDir: t.TempDir(), Node: "n1", Logger: discard,
		Notice: func(text string) { w.write("notice: %s", text) },
		Adopted: func(_ context.Context, run *config.Config) error {
			w.write("adopted: %d steps on %d workers", run.Train.Steps, run.Cluster.Workers)
			return w.adopted
		},
		Watch:   func(s cluster.Status) { w.write("watch: step %d", s.Step) },
		Command: func(int, spec.Spec) (supervise.Command, error) { return supervise.Command{}, nil },
	})
	w.agent.gossip, w.agent.control, w.agent.workers = fakeGossip{w}, fakeControl{w}, fakeWorkers{w}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(w.ended)
		w.end, w.endErr = w.agent.run(ctx, w.stop)
		w.agent.close(cancel)
	}()
	t.Cleanup(func() {
		cancel()
		<-w.ended
	})
	return w
}

func (w *world) write(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if n := len(w.did); n == 0 || w.did[n-1] != line { // a repeated look says nothing new
		w.did = append(w.did, line)
	}
}

// took returns what was done since the last call, once everything is at rest.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	did := w.did
	w.did = nil
	return did
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// sees sets who is alive and wakes the agent.
func (w *world) sees(nodes ...membership.Node) {
	w.set(func() { w.members = nodes })
	w.changed <- membership.Event{}
}

// member is the newest incarnation of a slot.
func (w *world) member(slot int) cluster.MemberID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest[slot]
}

// dies ends a worker's process.
func (w *world) dies(slot int, e supervise.Exit) {
	w.set(func() { delete(w.running, slot) })
	e.Slot, e.Name = slot, fmt.Sprintf("worker-%d", slot)
	w.exits <- e
}

// over ends the session.
func (w *world) over(err error) {
	w.err = err
	close(w.done)
}

type fakeGossip struct{ *world }

func (g fakeGossip) Members() []membership.Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}
func (fakeGossip) Lost() []string                    { return nil }
func (g fakeGossip) Events() <-chan membership.Event { return g.changed }
func (fakeGossip) UpdateMeta(membership.Meta) error  { return nil }
func (g fakeGossip) SetKeys(keys [][]byte) error     { g.write("keys: %d", len(keys)); return nil }
func (fakeGossip) Addr() string                      { return "127.0.0.1:7946" }
func (fakeGossip) WaitingFor() string                { return "seed 10.0.0.9:7946 (no answer)" }
func (g fakeGossip) Leave(time.Duration) error       { g.write("leave"); return nil }
func (fakeGossip) Stop()                             {}

type fakeControl struct{ *world }

func (c fakeControl) Register(ctx context.Context) (session, error) {
	select {
	case err := <-c.admit:
		return fakeSession(c), err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c fakeControl) Serve(ctx context.Context, _ node.Hold) error {
	c.write("serve")
	select {
	case err := <-c.serve:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c fakeControl) RequestStop(_ context.Context, reason string) error {
	c.write("request stop: %s", reason)
	return nil
}

func (c fakeControl) Status(context.Context) (cluster.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Step == 0 {
		return c.status, errors.New("no status")
	}
	return c.status, nil
}
func (c fakeControl) Release() { c.serve <- context.Canceled }

func (c fakeControl) Keep(seen cluster.Journal) error {
	c.write("keep generation %d", seen.Last.Number)
	return nil
}

func (c fakeControl) Probe(_ context.Context, addr string) error {
	c.write("probe %s", addr)
	return errors.New("refused")
}

func (c fakeControl) Announce(e cluster.End) error {
	c.write("announce %s", e.Outcome)
	return nil
}

func (c fakeControl) AnnounceSecrets(names []string) error {
	c.write("secrets: %s", strings.Join(names, " "))
	return nil
}

func (fakeControl) Close() {}

type fakeSession struct{ *world }

func (s fakeSession) Drain()                            { s.write("drain") }
func (s fakeSession) Drained() <-chan struct{}          { return s.drained }
func (s fakeSession) Config() string                    { return string(s.run.YAML(false)) }
func (s fakeSession) Formed() <-chan cluster.Generation { return nil }

func (s fakeSession) Kills() <-chan cluster.Kill { return s.kills }
func (s fakeSession) Done() <-chan struct{}      { return s.done }
func (s fakeSession) Err() error                 { return s.err }
func (s fakeSession) ReportExit(_ context.Context, e cluster.Exit) (cluster.Verdict, error) {
	s.write("report %s", e)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verdict, nil
}

type fakeWorkers struct{ *world }

func (f fakeWorkers) Start(slot int) error {
	if _, err := f.agent.command(slot); err != nil {
		return err
	}
	f.mu.Lock()
	err := f.startErr
	if err == nil {
		f.running[slot], f.newest[slot] = f.agent.members[slot], f.agent.members[slot]
	}
	f.mu.Unlock()
	f.write("start %d: %v", slot, err)
	return err
}

func (f fakeWorkers) Signal(slot int, sig syscall.Signal) error {
	f.write("%s to %d", sig, slot)
	return nil
}

func (f fakeWorkers) Kill(slot int) error {
	f.write("kill %d", slot)
	f.dies(slot, supervise.Exit{Code: -1, Signal: "SIGKILL", Asked: supervise.AskedKill})
	return nil
}

func (f fakeWorkers) Exits() <-chan supervise.Exit { return f.exits }

func (f fakeWorkers) Running() (list []supervise.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for slot := range f.running {
		list = append(list, supervise.Status{Slot: slot})
	}
	slices.SortFunc(list, func(a, b supervise.Status) int { return a.Slot - b.Slot })
	return list
}

func (f fakeWorkers) Close(context.Context) error {
	close(f.exits)
	return nil
}
