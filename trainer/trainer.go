package trainer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/tensor"
)

// Outcome says how a run ended for this worker.
type Outcome int

// Outcomes.
const (
	Finished Outcome = iota + 1 // all steps are done and saved
	Stopped                     // as RequestStop asked; Saved says whether the state is on a disk

	moved Outcome = -1 // to the next generation, with all others
)

var (
	// ErrDiverged is returned when too many steps in a row were not finite.
	ErrDiverged = errors.New("trainer: training diverged")
	// ErrDigest is returned when two ranks hold different parameters.
	ErrDigest = errors.New("trainer: ranks disagree")

	errSuperseded = errors.New("trainer: the generation is over")
	errCollective = errors.New("trainer: a collective operation failed")
)

// Parts are what a Trainer is made of.
type Parts struct {
	Backend                tensor.Backend
	Model                  Model
	Pass                   agr.Pass // all that follows the all-reduce, in the memory that holds the model
	Process                Process
	Loader                 Loader
	Height, Width, Channel int // of an image
	Session                Session
	Connector              Connector
	Member                 cluster.MemberID
	Node                   string  // where Member is, for people
	Store                  Store   // nil: nothing is saved or restored
	Memory                 *Memory // copies of the state that outlive this process; nil: none
	Fresh                  bool    // this node was told to start from scratch
	Tasks                  []Task  // done in this order
	Observer               Observer
	Flight                 *flight.Recorder     // of what the rank does; nil: nothing is recorded
	Usage                  func() cluster.Usage // of this process; nil: not known. It must be cheap
	Logger                 *slog.Logger
}

// Trainer is one worker's loop. Run it once.
type Trainer struct {
	cfg   Config
	parts Parts
	log   *slog.Logger

	state   *State
	ready   bool // the state holds a committed model, not half of a copy
	chunks  *chunker
	home    residence
	grads   *mirror // the model's gradient
	buckets []bucket
	count   *countdown
	losses  []float64
	word    []byte

	gens     *generations // of Run
	stop     atomic.Bool
	saveNow  atomic.Bool
	saved    *Saved // for the end of the run or a stop
	progress progress
	begun    bool
	// rehearsed: the model has computed a chunk in this process
	rehearsed bool
	forgetful bool // it was said that Memory failed
	restored  bool
}

// New checks the parts and allocates everything a step needs.
func New(cfg Config, p Parts) (*Trainer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	chunks, err := newChunker(cfg, p.Process, p.Backend, p.Model, p.Loader, p.Height, p.Width, p.Channel)
	if err != nil {
		return nil, err
	}
	for _, task := range p.Tasks {
		if err := task.validate(); err != nil {
			return nil, err
		}
	}
	params := p.Model.Params()
	t := &Trainer{cfg: cfg, parts: p, log: p.Logger, chunks: chunks, losses: make([]float64, cfg.Chunks())}
	t.grads = newMirror(p.Backend, params.Grads())
	if t.home, err = newResidence(cfg, p, t.grads); err != nil {
		return nil, err
	}
	if t.state, err = NewState(p.Backend, params, p.Pass, cfg.EMADecay > 0); err != nil {
		return nil, err
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	var of []int
	t.buckets, of = cutBuckets(params.List(), params.FlatLen(), cfg.BucketBytes)
	t.count = newCountdown(of, len(t.buckets))
	t.progress.session, t.progress.usage, t.progress.flight = p.Session, p.Usage, p.Flight
	t.progress.report = cluster.Report{Member: p.Member, Step: -1}
	return t, nil
}

// State is the model's state; read it only when Run does not run.
func (t *Trainer) State() *State { return t.state }

// RequestStop asks all ranks to save and stop after the step in flight. It may
// be called from any goroutine, more than once.
func (t *Trainer) RequestStop() { t.stop.Store(true) }

// RequestSave asks for a checkpoint after the step in flight, wherever rank 0 is. It
// may be called from any goroutine, more than once.
func (t *Trainer) RequestSave() { t.saveNow.Store(true) }

// Saved is what was saved for the end of the run or a stop; nil: nothing was. Read it
// only when Run does not run.
func (t *Trainer) Saved() *Saved { return t.saved }

// Run trains until the last step, a stop, a failure or the end of ctx. Losing
// peers is not a failure: it waits for the next generation.
func (t *Trainer) Run(ctx context.Context) (Outcome, error) {
	gens := watch(ctx, t.parts.Session)
	defer gens.close()
	t.gens = gens
	defer t.chunks.ahead.drop()
	t.progress.set(cluster.PhaseInit, 0)
	for {
		gen, rank, err := t.nextGeneration(ctx, gens)
		if err != nil {
			return 0, err
		}
		if gen == nil {
			return Stopped, t.saveAlone(ctx)
		}
		out, err := t.generation(ctx, gens, *gen, rank)
		t.progress.left(err, out == moved)
		switch {
		case err == nil && out == moved:
			t.log.Info("moved to the next generation", "generation", gen.Number, "step", t.state.Step)
		case err == nil:
			return out, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case errors.Is(err, errSuperseded):
			t.log.Info("left a generation", "generation", gen.Number, "step", t.state.Step)
		case errors.Is(err, errCollective):
			t.log.Info("lost a peer", "generation", gen.Number, "step", t.state.Step, "err", err)
			t.progress.broken(err, *gen)
		default:
			return 0, err
		}
	}
}

// nextGeneration waits for a generation newer than the last that has this
// worker in it. No generation and no error mean a stop was asked for meanwhile.
func (t *Trainer) nextGeneration(ctx context.Context, gens *generations) (*cluster.Generation, int, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var stopAt time.Time
	for {
		if g, ok := gens.take(); ok {
			for rank, m := range g.Members {
				if m.ID == t.parts.Member {
					return &g, rank, nil
				}
			}
			t.log.Info("not a member of the generation", "generation", g.Number)
		}
		if t.stop.Load() {
			// The others may be on their way to a generation in which all
			// save together; without one this worker leaves alone.
			if stopAt.IsZero() {
				stopAt = time.Now().Add(stopPatience)
			} else if time.Now().After(stopAt) {
				return nil, 0, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case <-gens.news:
		case <-tick.C:
		}
	}
}

// stopPatience is how long a stopping worker without a group waits for one.
const stopPatience = 3 * time.Second

// generation trains in one generation until the run ends or the generation does.
func (t *Trainer) generation(ctx context.Context, gens *generations, gen cluster.Generation, rank int) (out Outcome, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer gens.onNewer(gen.Number, func() { cancel(errSuperseded) })()
	t.progress.enter(gen, rank)

	plan, err := allreduce.NewPlanWithIdle(t.cfg.Chunks(), len(gen.Members), gen.Spares)
	if err != nil {
		return 0, fmt.Errorf("trainer: generation %d: %w", gen.Number, err)
	}
	peers := make([]string, len(gen.Members))
	for i, m := range gen.Members {
		peers[i] = m.DataAddr
	}
	group, err := t.parts.Connector.Connect(ctx, allreduce.GroupConfig{
		Generation: gen.Number, Rank: rank, Peers: peers, Plan: plan, Order: t.cfg.Order, OpTimeout: t.cfg.OpTimeout,
		Missing: func(peer int) { t.progress.missing(gen.Members[peer].ID) },
	})
	if err != nil {
		return 0, collective(ctx, err)
	}
	t.progress.set(cluster.PhaseSync, 0)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			group.Abort(cause)
		}
		// What went wrong on the way was reported by an operation. A group that
		// cannot let go of its memory is another matter: there is no next one.
		if stuck := group.Close(); stuck != nil {
			out, err = 0, fmt.Errorf("trainer: leave generation %d: %w", gen.Number, stuck)
		}
	}()
	aborted := context.AfterFunc(ctx, func() { group.Abort(context.Cause(ctx)) })
	defer aborted()

	r := &round{Trainer: t, gen: gen, group: group, plan: plan, rank: rank}
	out, err = r.train(ctx)
	if err != nil {
		group.Abort(err)
		return 0, collective(ctx, err)
	}
	return out, nil
}

// collective sorts an error: the generation is over because a newer one was
// formed, or because an operation with the peers failed, or the run is over.
func collective(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSuperseded) {
		return errSuperseded
	}
	if _, ok := errors.AsType[*allreduce.Error](err); ok {
		return fmt.Errorf("%w: %w", errCollective, err)
	}
	return err
}
