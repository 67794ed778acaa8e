package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
)

// ErrHistories is returned when the checkpoints of two nodes do not belong to one run.
var ErrHistories = errors.New("trainer: the nodes' checkpoints do not fit together")

// begin finds the state of a run in which no rank has one. Nodes may have directories
// of their own, and the rank that saved may have been on any of them: each node reads
// its newest checkpoint, and all take the newest of these.
func (r *round) begin(ctx context.Context) error {
	all, err := r.offers(ctx)
	from := source(all)
	switch {
	case err != nil:
	case from < 0:
		return r.initialise(ctx)
	default:
		if err = r.consistent(from, all); err == nil {
			err = r.descends(ctx, from, all)
		}
		if err == nil {
			r.restored = true
			err = r.take(ctx, from, all)
		}
	}
	if err != nil && r.ready && (from < 0 || r.state.Step != all[from].step) {
		// An older checkpoint must not pass for the run's state in the next generation,
		// which looks again.
		r.ready = false
		r.progress.state(r.state, false)
	}
	return err
}

// offers reads the checkpoints, first those of the run itself, and returns what each
// rank then has.
func (r *round) offers(ctx context.Context) ([]standing, error) {
	var damaged error
	own := func(ctx context.Context) (bool, error) {
		if r.remember() {
			return true, nil
		}
		if r.parts.Store == nil {
			return false, nil
		}
		found, err := r.parts.Store.Restore(ctx, r.state)
		if _, none := errors.AsType[*checkpoint.NoneValidError](err); none {
			damaged, err = err, nil // another node may have a good one
		}
		return found, err
	}
	all, err := r.read(ctx, r.firstOfNode(), own)
	if err != nil || source(all) >= 0 {
		if damaged != nil {
			r.log.Warn("no checkpoint of this node can be used", "err", damaged)
		}
		return all, err
	}
	if damaged != nil {
		return nil, damaged // the others wait in the next exchange, and hear of it
	}
	return r.read(ctx, r.rank == 0 && r.parts.Store != nil, func(ctx context.Context) (bool, error) { return r.parts.Store.RestoreSource(ctx, r.state) })
}

// remember takes the state from the memory of this node's agent, where that is newer than
// this node's newest checkpoint.
func (r *round) remember() bool {
	if r.parts.Memory == nil {
		return false
	}
	after := int64(-1)
	if r.parts.Store != nil {
		after = r.parts.Store.NewestStep()
	}
	found, err := r.parts.Memory.Restore(r.state, after)
	if err != nil {
		r.log.Warn("the state that the agent holds cannot be used", "err", err)
		return false // a checkpoint will do
	}
	if found {
		r.log.Warn("all workers were lost: continuing from the state in the agent's memory", "step", r.state.Step)
	}
	return found
}

// read lets some ranks look for a checkpoint. The others stay in touch meanwhile.
func (r *round) read(ctx context.Context, looks bool, restore func(context.Context) (bool, error)) ([]standing, error) {
	var found bool
	_, err := r.background(ctx, func(ctx context.Context) (err error) {
		if looks && (r.parts.Store != nil || r.parts.Memory != nil) {
			found, err = restore(ctx)
		}
		return err
	}, false)
	if err != nil {
		return nil, err
	}
	if found {
		r.ready = true
		r.progress.state(r.state, true)
	}
	return r.standings(ctx)
}

// firstOfNode tells whether this rank is the lowest of its node.
func (r *round) firstOfNode() bool {
	node := r.gen.Members[r.rank].Node
	return r.rank == slices.IndexFunc(r.gen.Members, func(m cluster.Member) bool { return m.Node == node })
}

// consistent refuses checkpoints that cannot be of one run.
func (r *round) consistent(from int, all []standing) error {
	newest, at := all[from], r.gen.Members[from].Node
	for rank, s := range all {
		node := r.gen.Members[rank].Node
		switch {
		case s.has && s.step == newest.step && s.digest != newest.digest:
			return fmt.Errorf("%w: nodes %s and %s have different checkpoints of step %d; move the one that is not of this run out of its --out directory",
				ErrHistories, at, node, s.step)
		case s.fresh && !s.has && node != at:
			return fmt.Errorf("%w: node %s was given --resume never, and node %s has a checkpoint of step %d; give node %s --resume never too, or another --out",
				ErrHistories, node, at, newest.step, at)
		}
	}
	return nil
}
