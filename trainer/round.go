package trainer

import (
	"bytes"
	"context"
	"fmt"
	"math"
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
	device allreduce.DeviceGroup // where the device holds the state
	rank   int
	lo, hi int // this rank's chunks
	reduce reduction
}

// train synchronises the state, then steps until the end of the run.
func (r *round) train(ctx context.Context) (out Outcome, err error) {
	if err := r.sync(ctx); err != nil {
		return 0, err
	}
	r.parts.Observer.Generation(r.gen, r.rank, r.state.Step)
	if !r.begun {
		r.begun = true
		if r.rank == 0 {
			r.parts.Observer.Start(Started{Step: r.state.Step, Restored: r.restored, Transport: r.transport()})
		}
	}

	// Nothing of an earlier generation's step in flight may stay: the
	// accumulator is new.
	r.lo, r.hi = r.plan.Block(r.rank)
	if r.device != nil {
		if r.reduce, err = r.newDeviceReduction(); err != nil {
			return 0, err
		}
	} else {
		r.reduce = newHostReduction(ctx, r.group, r.plan, r.buckets, r.grads)
	}
	defer func() {
		if err != nil {
			r.group.Abort(err) // frees the reduction from an operation in flight
		}
		r.reduce.stop()
	}()
	return r.steps(ctx)
}

// transport says how gradients travel.
func (r *round) transport() string {
	if r.device != nil {
		return r.device.Transport()
	}
	return "host"
}

func (r *round) steps(ctx context.Context) (Outcome, error) {
	for r.state.Step < r.cfg.Steps {
		stop, err := r.step(ctx)
		if err != nil {
			return 0, err
		}
		if stop {
			return Stopped, r.leave(ctx)
		}
		if err := r.cadence(ctx); err != nil {
			return 0, err
		}
	}
	return Finished, r.finish(ctx)
}

// step computes, reduces, agrees and updates. It reports whether any rank asked
// to stop.
func (r *round) step(ctx context.Context) (stop bool, err error) {
	start := time.Now()
	s := r.state
	own, err := r.gradients(ctx)
	if err != nil {
		return false, err
	}
	lr := r.cfg.LR(s.Step)
	measured, err := r.measure(lr)
	if err != nil {
		return false, err
	}
	r.progress.set(cluster.PhaseBarrier, len(r.buckets))
	w := commitWord{generation: r.gen.Number, step: s.Step, stop: r.stop.Load(), firstChunk: r.lo, losses: own}
	r.word = w.append(r.word[:0])
	words, err := r.group.AllGather(ctx, r.word)
	if err != nil {
		return false, err
	}
	v, err := decide(words, r.gen.Number, s.Step, r.losses)
	if err != nil {
		return false, err
	}

	// From here on every rank does the same with the same numbers.
	r.progress.set(cluster.PhaseUpdate, len(r.buckets))
	var loss float64
	for _, l := range v.losses {
		loss += l
	}
	loss *= float64(r.chunks.batch.GradScale)
	var stats optim.Stats
	if finite(loss) {
		if stats, err = r.update(lr, measured); err != nil {
			return false, err
		}
	}
	s.Step++
	s.Generation = r.gen.Number
	if stats.Finite {
		s.Updates++
		s.InARow = 0
		r.tell(loss, stats.GradNorm, lr, time.Since(start))
		return v.stop, nil
	}
	s.InARow++
	return v.stop, r.skipped(v, loss)
}

// update applies the reduced gradient.
func (r *round) update(lr float64, measured optim.Stats) (optim.Stats, error) {
	if r.device != nil {
		return r.updateOnDevice(measured)
	}
	s := r.state
	stats := r.parts.Optimizer.Update(optim.Update{
		Params: s.Values, Grads: r.grads.host, EMA: s.EMA, LR: lr, T: s.Updates + 1,
		MaxGradNorm: r.cfg.MaxGradNorm, EMADecay: r.cfg.EMADecay,
	})
	if stats.Finite {
		s.values.push()
	}
	return stats, nil
}

// gradients computes this rank's chunks; buckets are reduced while the last of
// them is still in backward. It returns the chunks' losses.
func (r *round) gradients(ctx context.Context) ([]float64, error) {
	r.reduce.begin(r.state.Step)
	r.count.reset()
	own := r.losses[r.lo:r.lo]
	if r.lo == r.hi { // more ranks than chunks
		r.reduce.send(ctx, 0, len(r.buckets))
	}
	for c := r.lo; c < r.hi; c++ {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		r.progress.set(cluster.PhaseForward, c-r.lo)
		var ready func(int)
		if c == r.hi-1 && r.reduce.early() {
			ready = func(i int) { r.release(ctx, i) }
		}
		loss, err := r.chunks.compute(r.state.Step, c, ready)
		if err != nil {
			return nil, err
		}
		own = append(own, loss)
		switch {
		case c < r.hi-1:
			err = r.reduce.add(c)
		case ready == nil:
			err = r.reduce.flush(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	if r.device != nil { // waits for this device alone: who is slow shows
		var err error
		if own, err = r.chunks.appendLosses(own[:0], r.lo, r.hi); err != nil {
			return nil, err
		}
	}
	r.progress.set(cluster.PhaseAllReduce, 0)
	return own, r.reduce.wait(ctx)
}

// release hands buckets that a parameter has completed to the reduction.
func (r *round) release(ctx context.Context, i int) {
	from, to := r.count.done(i)
	if from < to {
		r.progress.set(cluster.PhaseBackward, from)
		r.reduce.send(ctx, from, to)
	}
}

func (r *round) tell(loss, norm, lr float64, took time.Duration) {
	info := StepInfo{
		Step: r.state.Step, Loss: loss, GradNorm: norm, LR: lr,
		Millis:          float64(took.Microseconds()) / 1e3,
		ImagesPerSecond: float64(r.cfg.GlobalBatch) / took.Seconds(),
		WorldSize:       r.group.Size(), Generation: r.gen.Number, Rank: r.rank,
	}
	r.progress.committed(r.state, info)
	r.parts.Observer.Step(info)
}

// skipped tells of a step that was not finite and ends the run when there were
// too many in a row.
func (r *round) skipped(v verdict, loss float64) error {
	info := SkipInfo{
		Step: r.state.Step, Loss: loss, InARow: int(r.state.InARow),
		WorldSize: r.group.Size(), Generation: r.gen.Number, Rank: r.rank,
	}
	for c, l := range v.losses {
		if !finite(l) {
			info.Chunks = append(info.Chunks, c)
			info.Draws = append(info.Draws, r.chunks.firstDraw(r.state.Step-1, c))
		}
	}
	r.progress.state(r.state, true)
	r.parts.Observer.Skip(info)
	if int(r.state.InARow) > r.cfg.MaxSkipped {
		return fmt.Errorf("%w: %d steps in a row had a loss or gradient that is not finite (train.max_skipped is %d); lower lr.base or set train.clip_grad_norm, then resume from a checkpoint before step %d",
			ErrDiverged, r.state.InARow, r.cfg.MaxSkipped, r.state.Step-r.state.InARow)
	}
	return nil
}

// cadence does what is due after some steps.
func (r *round) cadence(ctx context.Context) error {
	step := r.state.Step
	due := func(every int64) bool { return every > 0 && step%every == 0 && step < r.cfg.Steps }
	if due(r.cfg.DigestEvery) {
		if err := r.compare(ctx); err != nil {
			return err
		}
	}
	if due(r.cfg.CheckpointEvery) && r.rank == 0 && r.parts.Store != nil {
		r.progress.set(cluster.PhaseCheckpoint, 0)
		// A disk that is full now may not be at the next one; the state is
		// safe in every rank's memory meanwhile.
		if err := r.state.Pull(); err != nil {
			return err
		}
		if err := r.parts.Store.Save(ctx, r.state); err != nil {
			if ctx.Err() != nil {
				return err
			}
			r.log.Error("checkpoint not written, training goes on", "err", err)
		}
	}
	if due(r.cfg.SampleEvery) {
		return r.sample(ctx)
	}
	return nil
}

// compare holds the parameters of all ranks against rank 0's.
func (r *round) compare(ctx context.Context) error {
	r.progress.set(cluster.PhaseBarrier, 0)
	own, err := r.state.parameterDigest()
	if err != nil {
		return err
	}
	all, err := r.group.AllGather(ctx, own[:])
	if err != nil {
		return err
	}
	for rank, d := range all {
		if !bytes.Equal(d, all[0]) {
			return fmt.Errorf("%w: after step %d the parameters of rank %d (%s) differ from rank 0's (%s); one of the two machines computes wrongly. The newest checkpoint is from before",
				ErrDigest, r.state.Step, rank, r.gen.Members[rank].Node, r.gen.Members[0].Node)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
