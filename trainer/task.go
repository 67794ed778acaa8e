package trainer

import (
	"context"
	"fmt"
)

// Task is work that the ranks share between steps and at the end of the run: sample
// grids, the loss on held-out images. It is a list of items, each a function of the
// state and its index; rank 0 gets all of them.
//
// A task is never worth the run: where it fails, the log says so and training
// continues, and a stop does not wait for it.
type Task struct {
	Name  string // for logs: "sample grid"
	Phase string // what the worker reports meanwhile: cluster.PhaseSample, cluster.PhaseEval
	Every int64  // steps between; 0: only at the end
	Count int    // items; 0: the task is off
	Each  int    // values of an item

	// Share computes items [lo, hi): (hi-lo) x Each values. It leaves the state as it
	// was. Every rank computes its share at the same time.
	Share func(ctx context.Context, s *State, lo, hi int) ([]float32, error)
	// Merge takes the values of all items, by index, on rank 0.
	Merge func(step int64, values []float32) error
}

func (t Task) validate() error {
	if t.Name == "" || t.Count < 0 || t.Each < 1 || t.Every < 0 || t.Share == nil || t.Merge == nil {
		return fmt.Errorf("trainer: task %q of %d items of %d values every %d steps is not complete; it needs a name, items, Share and Merge",
			t.Name, t.Count, t.Each, t.Every)
	}
	return nil
}

// task does a task at the current step.
func (r *round) task(ctx context.Context, t Task) error {
	if t.Count == 0 {
		return nil
	}
	r.parts.Memory.Wait() // a task may compute with the average in the parameters' place
	r.progress.set(t.Phase, 0)
	share := func(rank int) (lo, hi int) {
		return t.Count * rank / r.group.Size(), t.Count * (rank + 1) / r.group.Size()
	}
	lo, hi := share(r.rank)
	values := make([]float32, t.Count*t.Each)
	var failed error
	interrupted, err := r.background(ctx, func(ctx context.Context) error {
		if lo == hi {
			return nil
		}
		var own []float32
		if own, failed = t.Share(ctx, r.state, lo, hi); failed == nil && copy(values[lo*t.Each:hi*t.Each], own) != len(own) {
			failed = fmt.Errorf("%d values for %d items of %d", len(own), hi-lo, t.Each)
		}
		return nil
	}, true)
	if err != nil {
		return err
	}
	if interrupted { // on all ranks
		r.log.Info("task left undone: the run is to stop", "task", t.Name, "step", r.state.Step)
		return nil
	}
	if failed != nil {
		r.log.Warn("task failed", "task", t.Name, "step", r.state.Step, "err", failed)
	}
	// Where one rank could not compute its share (a model that diverges gives no
	// image), all continue without.
	if ok, err := r.agree(ctx, failed == nil); err != nil || !ok {
		return err
	}
	for rank := range r.group.Size() {
		if a, b := share(rank); a < b {
			if err := r.group.Broadcast(ctx, rank, values[a*t.Each:b*t.Each]); err != nil {
				return err
			}
		}
	}
	if r.rank != 0 {
		return nil
	}
	if err := t.Merge(r.state.Step, values); err != nil {
		r.log.Warn("task failed", "task", t.Name, "step", r.state.Step, "err", err)
	}
	return nil
}
