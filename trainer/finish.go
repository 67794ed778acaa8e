package trainer

import (
	"context"

	"github.com/agrdist/agrdist/cluster"
)

// finish saves, does the tasks a last time and ends the run together.
func (r *round) finish(ctx context.Context) error {
	if err := r.compare(ctx); err != nil {
		return err
	}
	if err := r.leave(ctx); err != nil {
		return err
	}
	for _, t := range r.parts.Tasks {
		if err := r.task(ctx, t); err != nil {
			return err
		}
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
