package trainer

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/optim"
)

// round is a trainer's part in one generation.
type round struct {
	*Trainer
	gen    cluster.Generation
	group  allreduce.Group
	plan   *allreduce.Plan
	rank   int
	lo, hi int // this rank's chunks
	// keepers are the ranks that may write checkpoints, of each disk one.
	keepers []int
	reduce  *reduction
	lesson  *lesson // nil: all ranks have the state
}

// train synchronises the state, then steps until the end of the run.
func (r *round) train(ctx context.Context) (out Outcome, err error) {
	// Nothing of an earlier generation's step in flight stays.
	if err := r.home.join(ctx, r.group, r.plan); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			r.group.Abort(err) // frees the residence from an operation in flight
		}
		r.home.leave()
		r.parts.Memory.Wait()
	}()
	if err := r.sync(ctx); err != nil {
		return 0, err
	}
	if err := r.chooseKeepers(ctx); err != nil {
		return 0, err
	}
	r.parts.Observer.Generation(r.gen, r.rank, r.state.Step)
	if !r.begun {
		r.begun = true
		if r.rank == 0 {
			r.parts.Observer.Start(Started{Step: r.state.Step, Restored: r.restored, Transport: r.home.transport()})
		}
	}
	r.lo, r.hi = r.plan.Block(r.rank)
	r.reduce = &reduction{
		home: r.home, chunks: r.chunks, progress: &r.progress, buckets: r.buckets, count: r.count,
		steps: r.cfg.Steps, lo: r.lo, hi: r.hi, grads: r.grads,
	}
	return r.steps(ctx)
}

func (r *round) steps(ctx context.Context) (Outcome, error) {
	for r.state.Step < r.cfg.Steps {
		v, err := r.step(ctx)
		if err != nil {
			return 0, err
		}
		if v.stop {
			r.stop.Store(true) // whoever is left after a loss still knows it
			return Stopped, r.leave(ctx)
		}
		if err := r.graduate(ctx); err != nil {
			return 0, err
		}
		if err := r.cadence(ctx, v.save); err != nil {
			return 0, err
		}
		if v.next && r.state.Step < r.cfg.Steps {
			return moved, nil
		}
	}
	return Finished, r.finish(ctx)
}

// step computes, reduces, agrees and updates. It returns what the ranks agreed on.
func (r *round) step(ctx context.Context) (v verdict, err error) {
	start := time.Now()
	s := r.state
	if err := r.gradients(ctx); err != nil {
		return v, err
	}
	u := s.update(r.grads.buf)
	u.LR, u.MaxGradNorm, u.EMADecay = r.cfg.LR(s.Step), r.cfg.MaxGradNorm, r.cfg.EMADecay
	if r.cfg.Measure != nil && r.cfg.Measure(s.Step+1) {
		u.Movement = &optim.Movement{}
	}
	stats, err := r.parts.Pass.Measure(u) // the last time in a step that the host waits for a device
	if err != nil {
		return v, fmt.Errorf("trainer: gradient of step %d: %w", s.Step, err)
	}
	own := r.losses[r.lo:r.hi]
	r.reduce.collect(own)
	r.progress.set(cluster.PhaseBarrier, len(r.buckets))
	w := commitWord{generation: r.gen.Number, step: s.Step, stop: r.stop.Load(), save: r.saveNow.Load(), next: r.lesson == nil && r.gens.due(), firstChunk: r.lo, losses: own}
	if u.Movement != nil {
		r.measure(&w)
	}
	r.word = w.append(r.word[:0])
	r.progress.pledge(s, r.gen.Number)
	words, err := r.group.AllGather(ctx, r.word)
	if err != nil {
		return v, err
	}
	v, err = decide(words, r.gen.Number, s.Step, r.losses)
	if err != nil {
		return v, err
	}

	if v.save {
		r.saveNow.Store(false)
	}
	// From here on every rank does the same with the same numbers.
	r.progress.set(cluster.PhaseUpdate, len(r.buckets))
	var loss float64
	for _, l := range v.losses {
		loss += l
	}
	loss *= float64(r.chunks.batch.GradScale)
	committed := finite(loss) && stats.Finite
	if committed {
		r.parts.Memory.Wait()
		if err := r.parts.Pass.Apply(); err != nil {
			return v, fmt.Errorf("trainer: update of step %d: %w", s.Step, err)
		}
		s.changed()
	}
	s.Step++
	s.Generation = r.gen.Number
	if committed {
		s.Updates++
		s.InARow = 0
		r.tell(StepInfo{
			Loss: loss, GradNorm: stats.GradNorm, LR: u.LR, AGR: stats.AGR, Measured: r.measured(v, s.Step-1, u.Movement),
		}, time.Since(start))
		return v, nil
	}
	s.InARow++
	if s.InARow == 1 {
		// One rank whose memory went wrong spoils the sums of all: that is no divergence.
		if err := r.compare(ctx, s.parameterDigest); err != nil {
			return v, err
		}
	}
	return v, r.skipped(v, loss)
}

// gradients computes this rank's chunks and sums their gradients with the other
// ranks'.
func (r *round) gradients(ctx context.Context) error {
	if err := r.rehearse(ctx); err != nil {
		return err
	}
	if r.lesson != nil {
		r.home.teach(ctx, r.lesson, false)
	}
	r.reduce.begin(ctx, r.state.Step, r.state.InARow > 0)
	for c := r.lo; c < r.hi; c++ {
		if err := r.reduce.chunk(ctx, c); err != nil {
			return err
		}
	}
	return r.reduce.wait(ctx)
}

// tell completes the account of a committed step and passes it on.
func (r *round) tell(info StepInfo, took time.Duration) {
	info.Step, info.Millis = r.state.Step, inMillis(took)
	info.ImagesPerSecond = float64(r.cfg.GlobalBatch) / took.Seconds()
	info.WorldSize, info.Generation, info.Rank = r.gen.World(), r.gen.Number, r.rank
	r.progress.committed(r.state, r.ready, info, r.reduce.spent)
	r.parts.Observer.Step(info)
}

// skipped tells of a step that was not finite and ends the run when there were
// too many in a row.
func (r *round) skipped(v verdict, loss float64) error {
	info := SkipInfo{
		Step: r.state.Step, Loss: loss, InARow: int(r.state.InARow),
		WorldSize: r.gen.World(), Generation: r.gen.Number, Rank: r.rank,
	}
	for c, l := range v.losses {
		if !finite(l) {
			info.Chunks = append(info.Chunks, c)
			info.Draws = append(info.Draws, r.chunks.firstDraw(r.state.Step-1, c))
		}
	}
	r.progress.state(r.state, r.ready)
	r.parts.Observer.Skip(info)
	if int(r.state.InARow) > r.cfg.MaxSkipped {
		return fmt.Errorf("%w: %d steps in a row had a loss or gradient that is not finite (train.max_skipped is %d); lower lr.base or set train.clip_grad_norm, then resume from a checkpoint before step %d",
			ErrDiverged, r.state.InARow, r.cfg.MaxSkipped, r.state.Step-r.state.InARow)
	}
	return nil
}

// cadence does what is due after some steps; save asks for a checkpoint now.
func (r *round) cadence(ctx context.Context, save bool) error {
	step := r.state.Step
	due := func(every int64) bool { return every > 0 && step%every == 0 && step < r.cfg.Steps }
	save = due(r.cfg.CheckpointEvery) || step < r.cfg.Steps && (save || slices.Contains(r.cfg.CheckpointAt, step))
	if save || due(r.cfg.DigestEvery) || slices.ContainsFunc(r.parts.Tasks, func(t Task) bool { return due(t.Every) }) {
		if err := r.cram(ctx); err != nil {
			return err
		}
	}
	switch {
	case save:
		if err := r.compareAndRemember(ctx); err != nil {
			return err
		}
	case due(r.cfg.DigestEvery):
		if err := r.compare(ctx, r.state.parameterDigest); err != nil {
			return err
		}
	}
	if save && r.keeps() {
		r.progress.set(cluster.PhaseCheckpoint, 0)
		// A disk that is full now may not be at the next one; the state is
		// safe in every rank's memory meanwhile.
		if err := r.parts.Store.Save(ctx, r.state); err != nil {
			if ctx.Err() != nil {
				return err
			}
			r.log.Error("checkpoint not written, training continues", "err", err)
		}
	}
	for _, t := range r.parts.Tasks {
		if due(t.Every) {
			if err := r.task(ctx, t); err != nil {
				return err
			}
		}
	}
	if m := r.parts.Memory; m != nil && due(r.cfg.MemoryEvery) && r.ready && r.firstOfNode() {
		if err := m.Keep(r.state); err != nil && !r.forgetful {
			r.forgetful = true
			r.log.Warn("the agent's memory does not hold the state", "err", err)
		}
	}
	return nil
}

// compare checks that all ranks have rank 0's digest, of the parameters while training
// and of the whole state before a checkpoint: what is saved is what every rank holds.
func (r *round) compare(ctx context.Context, digest func() ([16]byte, error)) error {
	r.progress.set(cluster.PhaseBarrier, 0)
	own, err := digest()
	if err != nil {
		return err
	}
	all, err := r.group.AllGather(ctx, own[:])
	if err != nil {
		return err
	}
	return r.unanimous(all)
}

// unanimous says whose digest is not that of the others.
func (r *round) unanimous(all [][]byte) error {
	odd, most := dissenters(all)
	if len(odd) == 0 {
		return nil
	}
	var names []string
	for _, rank := range odd {
		names = append(names, fmt.Sprintf("rank %d (%s)", rank, r.gen.Members[rank].Node))
	}
	who := "that machine computes wrongly"
	if 2*most <= len(all) {
		who = "one of these machines computes wrongly"
	}
	return fmt.Errorf("%w: after step %d the state of %s differs from that of %d of %d ranks; %s. The newest checkpoint is from before: all ranks agreed on it",
		ErrDigest, r.state.Step, strings.Join(names, ", "), most, len(all), who)
}

// dissenters are the ranks whose digest is not the most frequent one (of equals the one
// of the lowest rank), and how many have that.
func dissenters(all [][]byte) (odd []int, most int) {
	count := map[string]int{}
	for _, d := range all {
		count[string(d)]++
	}
	var right []byte
	for _, d := range all {
		if n := count[string(d)]; n > most {
			most, right = n, d
		}
	}
	for rank, d := range all {
		if !bytes.Equal(d, right) {
			odd = append(odd, rank)
		}
	}
	return odd, most
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
