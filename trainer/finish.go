package trainer

import (
	"context"

	"github.com/agrdist/agrdist/cluster"
)

// finish saves, does the tasks a last time and ends the run together.
func (r *round) finish(ctx context.Context) error {
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
	// The digest leaves the state on the host, for the checkpoint and for whoever reads
	// it after Run.
	if err := r.compare(ctx, r.state.digest); err != nil {
		return err
	}
	r.progress.set(cluster.PhaseCheckpoint, 0)
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
