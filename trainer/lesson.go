package trainer

import (
	"context"
	"fmt"
	"slices"
)

// lesson gives the state to ranks that have none while the others train. They are ranks
// without chunks, so they get every step's gradient and apply it as all do, to whatever
// is in their memory. Meanwhile the teacher sends its state block by block, each as it is
// before the update of the step in flight. An update changes each element by itself, that
// is its parameter, average and moments together, so a range of elements all of whose
// vectors have arrived in one step follows the teacher's from then on, and what has not
// arrived yet is overwritten when it does. After the last block the learner holds the state of that
// step: nothing has to be caught up, and nobody has waited.
type lesson struct {
	from   int
	learns []bool  // by rank
	blocks []block // range by range, of each range all vectors
	group  int     // blocks of a range: a step sends all of them or none
	next   int     // blocks that were sent
	tries  int
}

// block is a range of one of the state's vectors.
type block struct {
	of *mirror
	at bucket
}

// In a step the teacher sends at least 1/lessonSteps of the state, and more while its own
// gradient is not ready to be sent.
const lessonSteps = 8

// lessonTries is how often a copy may arrive changed. Tests lower it.
var lessonTries = 3

// teachable tells whether all ranks that are behind can learn: they have no chunks.
func (r *round) teachable(from int, all []standing) bool {
	behind := false
	for rank, s := range all {
		if !s.has || s.step != all[from].step {
			if rank < r.gen.World() {
				return false
			}
			behind = true
		}
	}
	other := func(m *mirror) bool { return m.buf.Len() != r.state.values.buf.Len() }
	return behind && all[from].step < r.cfg.Steps && !slices.ContainsFunc(r.state.mirrors, other)
}

// teach begins a lesson.
func (r *round) teach(from int, all []standing) {
	target := all[from]
	l := &lesson{from: from, learns: make([]bool, len(all))}
	for rank, s := range all {
		l.learns[rank] = !s.has || s.step != target.step
	}
	l.group = len(r.state.mirrors)
	for n, lo := r.state.values.buf.Len(), 0; lo < n; lo += transferBlock {
		for _, m := range r.state.mirrors {
			l.blocks = append(l.blocks, block{m, bucket{lo, min(lo+transferBlock, n)}})
		}
	}
	r.lesson = l
	if l.learns[r.rank] {
		r.ready = false
		r.state.Step, r.state.Updates, r.state.InARow = target.step, target.upd, target.skip
		r.state.Generation, r.state.lineage = target.generation, nil // chooseKeepers brings it
		r.progress.state(r.state, false)
		r.log.Info("copying the state of a peer while it trains", "from", r.gen.Members[from].Node, "step", target.step)
	}
}

// least is how many blocks a step moves at least.
func (l *lesson) least() int {
	ranges := len(l.blocks) / l.group
	return (ranges + lessonSteps - 1) / lessonSteps * l.group
}

func (l *lesson) done() bool { return l.next == len(l.blocks) }

// graduate ends the lesson if all blocks have come, and checks what was learnt.
func (r *round) graduate(ctx context.Context) error {
	l := r.lesson
	if l == nil || !l.done() {
		return nil
	}
	r.state.changed()
	own, err := r.state.digest()
	if err != nil {
		return err
	}
	all, err := r.group.AllGather(ctx, own[:])
	if err != nil {
		return err
	}
	var wrong []string
	for rank, d := range all {
		if l.learns[rank] && string(d) != string(all[l.from]) {
			wrong = append(wrong, r.gen.Members[rank].Node)
			all[rank] = all[l.from]
		}
	}
	if err := r.unanimous(all); err != nil {
		return err
	}
	if len(wrong) > 0 { // all ranks see the same
		if l.tries++; l.tries == lessonTries {
			return fmt.Errorf("%w: the state that was copied to %v at step %d arrived changed %d times; check the memory and the network of that node",
				ErrDigest, wrong, r.state.Step, l.tries)
		}
		r.log.Warn("a copied state arrived changed; it is copied again", "to", wrong, "step", r.state.Step)
		l.next = 0
		return nil
	}
	r.lesson = nil
	if l.learns[r.rank] {
		r.ready = true
		r.log.Info("copied the state of a peer", "from", r.gen.Members[l.from].Node, "step", r.state.Step)
		r.progress.state(r.state, true)
	}
	return nil
}

// cram ends the lesson now, between two steps: something needs the state on every rank.
func (r *round) cram(ctx context.Context) error {
	for r.lesson != nil {
		r.home.teach(ctx, r.lesson, true)
		if err := r.home.wait(ctx); err != nil {
			return err
		}
		r.progress.tick()
		if err := r.graduate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// rehearse computes a chunk on a rank that has none and drops the result, so that its
// first step in a lost worker's place is as fast as any other.
func (r *round) rehearse(ctx context.Context) error {
	if r.lo < r.hi {
		r.rehearsed = true
	}
	if r.rehearsed || !r.ready {
		return nil
	}
	r.rehearsed = true
	var ready func(int)
	if r.home.overlaps() { // as the last chunk of a step is computed
		ready = func(int) {}
	}
	return r.chunks.compute(ctx, r.state.Step, 0, -1, r.home.losses(0), ready)
}
