package worker

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
)

// observer writes what happens to events.jsonl, where this worker is rank 0, and
// to its own log.
type observer struct {
	events  metrics.Sink
	file    *metrics.Log // one of events
	dir     rundir.Dir
	records *recordWriter
	log     *slog.Logger
	every   int64 // steps between step events
	steps   int64 // of the run
	start   metrics.Event

	mu     sync.Mutex
	looked time.Time // the last time, at the file of events

	leader atomic.Bool
	node   string
	wrote  atomic.Int64              // step of the newest checkpoint that this worker wrote; -1: none
	warned atomic.Pointer[time.Time] // the last warning about events
}

var _ trainer.Observer = (*observer)(nil)

func (o *observer) write(e metrics.Event) {
	if !o.leader.Load() {
		return
	}
	o.reopen()
	// A full disk must not end the run: it ends when the last checkpoint cannot be
	// written, and that says how to fix it.
	if err := o.events.Write(e); err != nil {
		now := time.Now()
		if last := o.warned.Load(); last == nil || now.Sub(*last) > time.Minute {
			o.warned.Store(&now)
			o.log.Warn("event not written", "err", err)
		}
	}
}

// reopen begins a new file of events where the old one was deleted or moved away under
// the run: what is written to it would be seen by nobody.
func (o *observer) reopen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Sub(o.looked) < lookEvery {
		return
	}
	first := o.looked.IsZero()
	o.looked = now
	if _, err := os.Stat(o.dir.Events()); first || !errors.Is(err, fs.ErrNotExist) {
		return
	}
	o.log.Warn("the run's directory was deleted or moved while it trains: checkpoints and events go to a new one, without what was in the old one", "path", string(o.dir))
	if err := errors.Join(o.dir.Make(), o.file.Close()); err != nil {
		o.log.Warn("the file of events cannot be made again", "err", err)
	}
}

// lookEvery is how often a run looks whether its directory is still there.
const lookEvery = 2 * time.Second

func (o *observer) Generation(g cluster.Generation, rank int, step int64) {
	o.leader.Store(rank == 0)
	members := make([]string, len(g.Members))
	for i, m := range g.Members {
		members[i] = m.String()
	}
	o.log.Info("generation", "generation", g.Number, "rank", rank, "world_size", g.World(), "spares", g.Spares, "step", step, "reason", g.Reason)
	o.write(metrics.Event{
		Event: metrics.EventGeneration, Step: step, Generation: g.Number,
		WorldSize: g.World(), Members: members, Spares: g.Spares, Reason: g.Reason,
	})
}

func (o *observer) Start(s trainer.Started) {
	e := o.start
	e.Event, e.Step, e.Steps, e.Transport = metrics.EventStart, s.Step, o.steps, s.Transport
	if s.Restored {
		e.ResumedAt = &s.Step
		o.log.Info("resumed", "step", s.Step)
	}
	o.write(e)
}

func (o *observer) Step(s trainer.StepInfo) {
	if s.Step%o.every != 0 && s.Step != o.steps {
		return
	}
	o.write(stepEvent(s))
	o.log.Debug("step", "step", s.Step, "loss", s.Loss)
}

// stepEvent is a step as events.jsonl tells it.
func stepEvent(s trainer.StepInfo) metrics.Event {
	e := metrics.Event{
		Event: metrics.EventStep, Step: s.Step, Loss: metrics.Finite(s.Loss), GradNorm: metrics.Finite(s.GradNorm),
		LR: metrics.Finite(s.LR), StepMillis: s.Millis, ImagesPerSecond: s.ImagesPerSecond,
		WorldSize: s.WorldSize, Generation: s.Generation,
	}
	if s.AGR > 0 {
		e.AGR = &s.AGR
	}
	m := s.Measured
	if m == nil {
		return e
	}
	e.LossLow, e.LossMid, e.LossHigh = metrics.Finite(m.Loss[0]), metrics.Finite(m.Loss[1]), metrics.Finite(m.Loss[2])
	if m.Movement.Params > 0 {
		e.UpdateNorm, e.ParamNorm = metrics.Finite(m.Movement.Update), metrics.Finite(m.Movement.Params)
		if m.Movement.EMA > 0 {
			e.EMADistance = metrics.Finite(m.Movement.EMA / m.Movement.Params)
		}
	}
	for _, r := range m.Ranks {
		e.Data, e.Compute, e.Wait = append(e.Data, r.Data), append(e.Compute, r.Compute), append(e.Wait, r.Wait)
		e.RSS = append(e.RSS, r.RSS)
	}
	return e
}

// measured says which steps are measured: one of measureEvery, among those that have an
// event. nil: none.
func measured(c config.Log) func(step int64) bool {
	if c.MeasureEvery == 0 {
		return nil
	}
	every := (c.MeasureEvery + c.Every - 1) / c.Every * c.Every
	return func(step int64) bool { return step%every == 0 }
}

func (o *observer) Skip(s trainer.SkipInfo) {
	o.log.Warn("step skipped: loss or gradient not finite", "step", s.Step, "loss", s.Loss,
		"chunks", s.Chunks, "first_draws", s.Draws, "in_a_row", s.InARow)
	o.write(metrics.Event{
		Event: metrics.EventSkip, Step: s.Step, WorldSize: s.WorldSize, Generation: s.Generation,
		Chunks: s.Chunks, Draws: s.Draws, InARow: s.InARow,
	})
}

// saved is called by the store when a checkpoint is durable, or could not be
// made so; the failure itself surfaces in the loop.
func (o *observer) saved(info checkpoint.Info, err error) {
	if err != nil {
		o.log.Error("checkpoint not written", "step", info.Step, "err", err)
		return
	}
	o.log.Info("checkpoint", "step", info.Step, "path", info.Path)
	o.wrote.Store(info.Step)
	if o.leader.Load() {
		o.records.write(spec.Record{Written: &spec.Written{Step: info.Step}})
	}
	o.write(metrics.Event{Event: metrics.EventCheckpoint, Step: info.Step, Path: info.Path})
}

// sample is called when a sample grid is written.
func (o *observer) sample(step int64, path string) {
	o.log.Info("sample grid", "step", step, "path", path)
	o.write(metrics.Event{Event: metrics.EventSample, Step: step, Path: path})
}

// heldOut is called when the held-out loss was measured.
func (o *observer) heldOut(step int64, e metrics.Event) {
	o.log.Info("held-out loss", "step", step, "loss", *e.HeldOutLoss, "std_err", *e.HeldOutStdErr, "weights", e.Weights)
	e.Event, e.Step = metrics.EventEval, step
	o.write(e)
}

// Saved passes the word that the state is durable on to the agent.
func (o *observer) Saved(s trainer.Saved) {
	o.log.Info("saved", "step", s.Step, "node", s.Node, "path", s.Path, "also_on", s.Also)
	if !o.leader.Load() && s.Node == o.node && o.wrote.Load() == s.Step {
		// Rank 0 could not write: of the others, this one's is the first.
		o.records.write(spec.Record{Written: &spec.Written{Step: s.Step}})
	}
	o.records.write(spec.Record{Saved: &spec.Saved{Step: s.Step, Node: s.Node, Path: s.Path, Also: s.Also}})
}

func (o *observer) Stop(step int64) {
	o.log.Info("stopped", "step", step)
	o.write(metrics.Event{Event: metrics.EventStop, Step: step})
}

func (o *observer) Finish(step int64, digest string) {
	o.log.Info("finished", "step", step, "model_digest", digest)
	o.write(metrics.Event{Event: metrics.EventFinish, Step: step, Steps: step, ModelDigest: digest})
}
