package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/internal/flight"
)

// flights are the flight recorders of this node's workers. The agent reads them when
// something went wrong: a worker that is hung or dead cannot.
type flights struct {
	node, dir string
	log       *slog.Logger

	mu         sync.Mutex
	rings      map[int]*flight.Ring // by slot, of the newest incarnation
	generation uint64               // the newest that was seen
}

// dumped is how many records of a worker are written.
const dumped = 2048

// settle is how long the surviving workers have to notice a death before their records
// are written.
const settle = time.Second

func newFlights(node, dir string, log *slog.Logger) *flights {
	return &flights{node: node, dir: dir, log: log, rings: map[int]*flight.Ring{}}
}

// begin makes the recorder of a worker that is about to start; nil where that fails: the
// run is worth more.
func (f *flights) begin(slot int) *os.File {
	ring, err := flight.Create()
	if err != nil {
		f.log.Warn("a worker runs without a flight recorder", "slot", slot, "err", err)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.rings[slot]; old != nil {
		_ = old.Close() // its dump was written when the worker ended
	}
	f.rings[slot] = ring
	return ring.File
}

// write writes the end of a worker's recording.
func (f *flights) write(slot, pid int, reason, ended string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ring := f.rings[slot]
	if ring == nil {
		return
	}
	d := flight.Dump{Node: f.node, Slot: slot, PID: pid, Written: time.Now().UTC(), Reason: reason, Ended: ended, Records: ring.Records(dumped)}
	if err := flight.WriteDump(f.dir, d); err != nil {
		f.log.Warn("a worker's last records are not written", "slot", slot, "err", err)
	}
}

func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for slot, ring := range f.rings {
		_ = ring.Close() // nothing is written through it
		delete(f.rings, slot)
	}
}

// recordExit keeps what a worker did before it failed, and a moment later what the others
// have made of it.
func (a *Agent) recordExit(ctx context.Context, e supervise.Exit) {
	if !e.Failed() && e.Asked != supervise.AskedKill || e.Code == cluster.ExitStopped {
		return
	}
	a.flights.write(e.Slot, e.PID, "it ended", e.Reason())
	a.recordAll(ctx, settle, fmt.Sprintf("slot %d ended: %s", e.Slot, e.Reason()))
}

// recordAll writes what all workers of this node did last, after a while. It does not
// wait.
func (a *Agent) recordAll(ctx context.Context, after time.Duration, reason string) {
	a.tasks.Go(func() {
		select {
		case <-time.After(after):
		case <-ctx.Done(): // now or never
		}
		for _, w := range a.workers.Running() {
			a.flights.write(w.Slot, w.PID, reason, "")
		}
	})
}

// recordGeneration writes the records when the group of workers has changed: on the nodes
// whose workers are well, too, for they know for whom they waited.
func (a *Agent) recordGeneration(ctx context.Context, s cluster.Status) {
	f := a.flights
	f.mu.Lock()
	before := f.generation
	f.generation = max(before, s.Generation.Number)
	f.mu.Unlock()
	if before > 0 && s.Generation.Number > before {
		a.recordAll(ctx, 0, fmt.Sprintf("generation %d: %s", s.Generation.Number, s.Generation.Reason))
	}
}

// recordStacks writes where the agent's own goroutines are.
func (a *Agent) recordStacks() {
	path := filepath.Join(a.flights.dir, "agent-"+url.PathEscape(a.cfg.Node)+".stacks")
	err := os.MkdirAll(a.flights.dir, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.Create(path); err == nil {
			err = pprof.Lookup("goroutine").WriteTo(f, 2)
			_ = f.Close() // as good as it gets
		}
	}
	if err != nil {
		a.log.Warn("the agent's goroutines are not written", "err", err)
	}
}
