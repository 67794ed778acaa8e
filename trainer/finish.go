package trainer

import (
	"cmp"
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
	// Also are the other nodes on whose disks it is.
	Also []string
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
	if err := r.cram(ctx); err != nil {
		return err
	}
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
	if err := r.cram(ctx); err != nil {
		return err
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	r.progress.stopping(r.saved)
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

// save has the state written to as many disks as are wanted and returns when every rank
// has heard where it is durable: on at least one. The first disks in the order of ranks
// are written to at once; where one fails the next takes its place, and where no disk can
// be written to, another node that shares it. Where all that failed are full, the first of
// them waits for room.
func (r *round) save(ctx context.Context) error {
	// The digest leaves the state on the host, for the checkpoint and for whoever reads
	// it after Run.
	if err := r.compareAndRemember(ctx); err != nil {
		return err
	}
	r.progress.set(cluster.PhaseCheckpoint, 0)
	a := attempts{round: r, unsaved: &UnsavedError{Step: r.state.Step}, full: -1}
	for next := r.keepers; len(next) > 0 && len(a.saved) < r.wanted(); {
		n := min(r.wanted()-len(a.saved), len(next))
		if err := a.write(ctx, next[:n], 0); err != nil {
			return err
		}
		next = next[n:]
	}
	for _, rank := range r.others() {
		if len(a.saved) > 0 {
			break
		}
		if err := a.write(ctx, []int{rank}, 0); err != nil {
			return err
		}
	}
	if len(a.saved) == 0 && a.full >= 0 && r.cfg.FullDiskWait > 0 {
		a.unsaved.Reasons = nil
		if err := a.write(ctx, []int{a.full}, r.cfg.FullDiskWait); err != nil {
			return err
		}
	}
	switch {
	case len(a.saved) > 0:
		if len(a.saved) < r.wanted() {
			r.log.Warn("the checkpoint is on fewer nodes than checkpoint.replicas says", "step", r.state.Step,
				"nodes", len(a.saved), "wanted", r.wanted(), "err", strings.Join(a.unsaved.Reasons, "; "))
		}
		slices.SortFunc(a.saved, func(x, y savedBy) int { return cmp.Compare(x.rank, y.rank) })
		s := Saved{Step: r.state.Step, Node: r.gen.Members[a.saved[0].rank].Node, Path: a.saved[0].path}
		for _, o := range a.saved[1:] {
			s.Also = append(s.Also, r.gen.Members[o.rank].Node)
		}
		r.heard(s)
		return nil
	case len(a.unsaved.Reasons) == 0:
		return nil // nobody keeps checkpoints
	}
	return a.unsaved
}

// attempts are what ranks said that wrote the state, the same on every rank.
type attempts struct {
	*round
	saved   []savedBy
	unsaved *UnsavedError
	full    int // the first rank whose disk is full; -1: none is
}

type savedBy struct {
	rank int
	path string
}

// write has some ranks write the state, all at once, and takes in their words.
func (a *attempts) write(ctx context.Context, ranks []int, wait time.Duration) error {
	r := a.round
	word := []byte{wordNone}
	work := func(ctx context.Context) error {
		if !slices.Contains(ranks, r.rank) || r.parts.Store == nil {
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
		a.unsaved.Err = err
		return nil
	}
	if _, err := r.background(ctx, work, false); err != nil {
		return err
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return err
	}
	for _, rank := range ranks {
		if len(words[rank]) == 0 {
			return fmt.Errorf("trainer: rank %d sent an empty word after it wrote the state", rank)
		}
		kind, text := words[rank][0], string(words[rank][1:])
		switch kind {
		case wordSaved:
			a.saved = append(a.saved, savedBy{rank, text})
			continue
		case wordNone:
			continue
		case wordFull:
			if a.full < 0 {
				a.full = rank
			}
		}
		a.unsaved.Reasons = append(a.unsaved.Reasons, fmt.Sprintf("node %s: %s", r.gen.Members[rank].Node, text))
	}
	return nil
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
	t.progress.stopping(t.saved)
	return nil
}
