package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// Saved is the word that the state a run ends or stops with is durable: written,
// synced, read back, and under its name.
type Saved struct {
	Step int64
	Node string
	Path string // on that node
}

// UnsavedError says that the state a run ends or stops with is on no disk.
type UnsavedError struct {
	Step    int64
	Reasons []string // one for each node that tried
	Err     error    // of this rank; nil if it did not try
}

func (e *UnsavedError) Error() string {
	return fmt.Sprintf("the state of step %d was not saved: %s", e.Step, strings.Join(e.Reasons, "; "))
}

// Unwrap returns this rank's own error.
func (e *UnsavedError) Unwrap() error { return e.Err }

// finish saves, does the tasks a last time and ends the run together.
func (r *round) finish(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
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

// leave saves for a stop. A rank says that it leaves only after it has heard that the
// state is durable: until then it can take the place of one that dies.
func (r *round) leave(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
		return err
	}
	r.progress.stopping()
	if r.rank == 0 {
		r.parts.Observer.Stop(r.state.Step)
	}
	return nil
}

// The word of the rank that writes: one byte, then the path or the error.
const (
	wordNone   = iota // this rank keeps no checkpoints
	wordSaved         // path
	wordFailed        // error
	wordFull          // error: the disk is full, which may pass
)

// save has one rank write the state and returns when every rank has heard that it is
// durable: rank 0, or where it cannot the first rank of another node. Where all disks
// are full, the first of them waits for room.
func (r *round) save(ctx context.Context) error {
	// The digest leaves the state on the host, for the checkpoint and for whoever reads
	// it after Run.
	if err := r.compare(ctx, r.state.digest); err != nil {
		return err
	}
	r.progress.set(cluster.PhaseCheckpoint, 0)
	unsaved := &UnsavedError{Step: r.state.Step}
	full := -1
	attempt := func(rank int, wait time.Duration) (done bool, err error) {
		kind, text, err := r.write(ctx, rank, wait, unsaved)
		node := r.gen.Members[rank].Node
		switch {
		case err != nil:
			return false, err
		case kind == wordSaved:
			r.heard(Saved{Step: r.state.Step, Node: node, Path: text})
			return true, nil
		case kind == wordNone:
			return false, nil
		case kind == wordFull && full < 0:
			full = rank
		}
		unsaved.Reasons = append(unsaved.Reasons, fmt.Sprintf("node %s: %s", node, text))
		return false, nil
	}
	for rank, m := range r.gen.Members {
		if rank == slices.IndexFunc(r.gen.Members, func(o cluster.Member) bool { return o.Node == m.Node }) {
			if done, err := attempt(rank, 0); done || err != nil {
				return err
			}
		}
	}
	if full >= 0 && r.cfg.FullDiskWait > 0 {
		unsaved.Reasons = nil
		if done, err := attempt(full, r.cfg.FullDiskWait); done || err != nil {
			return err
		}
	}
	if len(unsaved.Reasons) == 0 {
		return nil // nobody keeps checkpoints
	}
	return unsaved
}

// write has a rank write the state, and returns its word on every rank. A failure of
// its own goes into unsaved.
func (r *round) write(ctx context.Context, rank int, wait time.Duration, unsaved *UnsavedError) (kind byte, text string, err error) {
	word := []byte{wordNone}
	work := func(ctx context.Context) error {
		if rank != r.rank || r.parts.Store == nil {
			return nil
		}
		path, err := r.parts.Store.SaveNow(ctx, r.state, wait)
		switch {
		case err == nil:
			word = append([]byte{wordSaved}, path...)
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			word = append([]byte{wordFull}, err.Error()...)
		default:
			word = append([]byte{wordFailed}, err.Error()...)
		}
		unsaved.Err = err
		return nil
	}
	if _, err := r.background(ctx, work, false); err != nil {
		return 0, "", err
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return 0, "", err
	}
	if len(words[rank]) == 0 {
		return 0, "", fmt.Errorf("trainer: rank %d sent an empty word after it wrote the state", rank)
	}
	return words[rank][0], string(words[rank][1:]), nil
}

// heard notes that the state is durable.
func (t *Trainer) heard(s Saved) {
	t.saved = &s
	t.parts.Observer.Saved(s)
}

// saveAlone writes a checkpoint without a group: every rank holds the whole state.
func (t *Trainer) saveAlone(ctx context.Context) error {
	if !t.ready || t.parts.Store == nil {
		return nil
	}
	if err := t.state.Pull(); err != nil {
		return err
	}
	path, err := t.parts.Store.SaveNow(ctx, t.state, t.cfg.FullDiskWait)
	if err != nil {
		return &UnsavedError{Step: t.state.Step, Reasons: []string{fmt.Sprintf("node %s: %v", t.parts.Node, err)}, Err: err}
	}
	t.heard(Saved{Step: t.state.Step, Node: t.parts.Node, Path: path})
	t.progress.stopping()
	return nil
}
