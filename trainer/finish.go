package trainer

import (
	"context"
	"errors"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// closedChannel is work that is already done.
var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// pulse is the pause between two exchanges of ranks that wait for one of them.
const pulse = 100 * time.Millisecond

// await keeps the ranks in touch while some of them have long work of their own,
// so that nobody's operation times out and a loss is noticed. It returns when
// every rank's work is done.
func (r *round) await(ctx context.Context, done <-chan struct{}) error {
	for {
		mine := false
		select {
		case <-done:
			mine = true
		default:
		}
		if all, err := r.agree(ctx, mine); err != nil || all {
			return err
		}
		r.progress.tick()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pulse):
		}
	}
}

// background does this rank's long work while it stays in touch with the others.
func (r *round) background(ctx context.Context, work func() error) error {
	done, failed := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		failed = work()
	}()
	err := r.await(ctx, done)
	<-done
	return errors.Join(failed, err)
}

// agree reports whether all ranks say yes.
func (r *round) agree(ctx context.Context, yes bool) (bool, error) {
	word := []byte{0}
	if yes {
		word[0] = 1
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return false, err
	}
	for _, w := range words {
		if len(w) != 1 || w[0] != 1 {
			return false, nil
		}
	}
	return true, nil
}

// finish saves, draws the last grid and ends the run together.
func (r *round) finish(ctx context.Context) error {
	if err := r.compare(ctx); err != nil {
		return err
	}
	if err := r.leave(ctx); err != nil {
		return err
	}
	if err := r.sample(ctx); err != nil {
		return err
	}
	if r.rank == 0 {
		r.parts.Observer.Finish(r.state.Step, Digest(r.state))
	}
	return r.group.Barrier(ctx)
}

// leave writes the checkpoint that the run ends or stops with. Nobody leaves
// before it is on the disk.
func (r *round) leave(ctx context.Context) error {
	r.progress.set(cluster.PhaseCheckpoint, 0)
	if err := r.state.Pull(); err != nil { // for the checkpoint, and for whoever reads the state after Run
		return err
	}
	work := func() error { return nil }
	if r.rank == 0 && r.parts.Store != nil {
		work = func() error { return r.save(ctx) }
	}
	if r.state.Step < r.cfg.Steps {
		r.progress.stopping()
	}
	if err := r.background(ctx, work); err != nil {
		return err
	}
	if r.rank == 0 && r.state.Step < r.cfg.Steps {
		r.parts.Observer.Stop(r.state.Step)
	}
	return nil
}

// save writes a checkpoint of the flat slices and waits for it.
func (t *Trainer) save(ctx context.Context) error {
	// The failure of an earlier write, if any, was reported when it happened.
	if err := t.parts.Store.Wait(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	if err := t.parts.Store.Save(ctx, t.state); err != nil {
		return err
	}
	return t.parts.Store.Wait(ctx)
}

// sample draws the grid of this step: each rank a share of the images, rank 0
// puts them together.
func (r *round) sample(ctx context.Context) error {
	if r.parts.Sampler == nil || r.parts.Sampler.Count() == 0 {
		return nil
	}
	r.progress.set(cluster.PhaseSample, 0)
	count, each := r.parts.Sampler.Count(), r.parts.Sampler.ImageLen()
	share := func(rank int) (lo, hi int) {
		return count * rank / r.group.Size(), count * (rank + 1) / r.group.Size()
	}
	lo, hi := share(r.rank)
	var own []float32
	var failed error
	err := r.background(ctx, func() error {
		if lo < hi {
			own, failed = r.parts.Sampler.Share(ctx, r.state, lo, hi)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A grid is not worth a run: where one rank could not draw its share (a
	// model that diverges gives no image), all go on without.
	ok, err := r.agree(ctx, failed == nil)
	if err != nil || !ok {
		if failed != nil {
			r.log.Warn("no sample grid", "step", r.state.Step, "err", failed)
		}
		return err
	}
	images := make([]float32, count*each)
	copy(images[lo*each:], own)
	for rank := range r.group.Size() {
		a, b := share(rank)
		if a == b {
			continue
		}
		if err := r.group.Broadcast(ctx, rank, images[a*each:b*each]); err != nil {
			return err
		}
	}
	if r.rank != 0 {
		return nil
	}
	path, err := r.parts.Sampler.Write(r.state.Step, images)
	if err != nil {
		return err
	}
	r.parts.Observer.Sample(r.state.Step, path)
	return nil
}
