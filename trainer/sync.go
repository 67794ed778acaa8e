package trainer

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// standing is what a rank has when a generation begins. On the wire: 1 byte of flags, then
// step, updates, skips in a row, the generation that committed the step, and the
// fingerprint of the generation that begins (8 bytes each).
const standingLen = 1 + 5*8

const (
	standsHas = 1 << iota
	standsFresh
)

type standing struct {
	has             bool // a state
	fresh           bool // its node was told to start from scratch
	step, upd, skip int64
	generation      uint64
	group           uint64
	digest          [16]byte // of the state, where it was exchanged
}

func (s standing) bytes() []byte {
	b := make([]byte, 1, standingLen)
	if s.has {
		b[0] |= standsHas
	}
	if s.fresh {
		b[0] |= standsFresh
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(s.step))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.upd))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.skip))
	b = binary.LittleEndian.AppendUint64(b, s.generation)
	return binary.LittleEndian.AppendUint64(b, s.group)
}

func parseStanding(b []byte) (s standing, err error) {
	if len(b) != standingLen {
		return s, fmt.Errorf("trainer: a rank's standing has %d bytes, expected %d", len(b), standingLen)
	}
	s.has, s.fresh = b[0]&standsHas != 0, b[0]&standsFresh != 0
	s.step = int64(binary.LittleEndian.Uint64(b[1:]))
	s.upd = int64(binary.LittleEndian.Uint64(b[9:]))
	s.skip = int64(binary.LittleEndian.Uint64(b[17:]))
	s.generation = binary.LittleEndian.Uint64(b[25:])
	s.group = binary.LittleEndian.Uint64(b[33:])
	return s, nil
}

// source picks whose state all continue from: the lowest rank among those that
// are furthest, -1 where nobody has one.
func source(all []standing) int {
	best := -1
	for rank, s := range all {
		if s.has && (best < 0 || s.step > all[best].step) {
			best = rank
		}
	}
	return best
}

// sync brings all ranks of the generation to one state: that of the rank that is
// furthest; where nobody has one, that of the newest checkpoint on any node; where
// there is none, the initial one, which every rank computes by itself.
func (r *round) sync(ctx context.Context) error {
	all, err := r.standings(ctx)
	if err != nil {
		return err
	}
	if from := source(all); from >= 0 {
		return r.take(ctx, from, all)
	}
	return r.begin(ctx)
}

// take brings ranks that are behind to the state of rank from: at once, or while the
// others train.
func (r *round) take(ctx context.Context, from int, all []standing) error {
	if err := r.agreed(from, all); err != nil {
		return err
	}
	if r.teachable(from, all) {
		r.teach(from, all)
		return nil
	}
	return r.copyFrom(ctx, from, all)
}

// standings returns what every rank has. The digests are there where somebody needs them:
// to compare states, or to check a copy.
func (r *round) standings(ctx context.Context) ([]standing, error) {
	own := standing{has: r.ready, fresh: r.parts.Fresh && r.firstOfNode(), step: r.state.Step, upd: r.state.Updates, skip: r.state.InARow, generation: r.state.Generation, group: r.gen.Fingerprint()}
	words, err := r.group.AllGather(ctx, own.bytes())
	if err != nil {
		return nil, err
	}
	all := make([]standing, len(words))
	for rank, b := range words {
		if all[rank], err = parseStanding(b); err != nil {
			return nil, fmt.Errorf("rank %d: %w", rank, err)
		}
		if all[rank].group != own.group {
			// Two coordinators gave one number to two groups. No step of either
			// has been made with a rank of the other.
			return nil, fmt.Errorf("%w: rank %d is in another generation %d, of other members; two coordinators are at work",
				errCollective, rank, r.gen.Number)
		}
	}
	from := source(all)
	if from < 0 {
		return all, nil
	}
	another := slices.ContainsFunc(slices.Delete(slices.Clone(all), from, from+1), func(s standing) bool { return s.has })
	if !another && (len(all) == 1 || r.teachable(from, all)) {
		return all, nil // nothing to compare, and a lesson has a check of its own
	}
	var digest [16]byte
	if own.has {
		if digest, err = r.state.digest(); err != nil {
			return nil, err
		}
	}
	if words, err = r.group.AllGather(ctx, digest[:]); err != nil {
		return nil, err
	}
	for rank, b := range words {
		if copy(all[rank].digest[:], b) != len(digest) {
			return nil, fmt.Errorf("trainer: a digest of rank %d has %d bytes, expected %d", rank, len(b), len(digest))
		}
	}
	return all, nil
}

// initialise sets the model's first weights.
func (r *round) initialise(ctx context.Context) error {
	if err := r.state.init(r.parts.Model, r.cfg.Seed); err != nil {
		return err
	}
	r.ready = true
	r.progress.state(r.state, true)
	return r.compare(ctx, r.state.parameterDigest)
}

// transferBlock is how many values of the state travel at a time. Tests lower it.
var transferBlock = 1 << 20

// spread sends the state of rank from to all that do not keep theirs. Ranks that do
// take it into the gradients, which hold nothing between steps.
func (r *round) spread(ctx context.Context, from int, keep bool) error {
	for _, m := range r.state.mirrors {
		for lo := 0; lo < m.buf.Len(); lo += transferBlock {
			at := bucket{lo, min(lo+transferBlock, m.buf.Len())}
			to := m
			if keep && r.rank != from {
				at, to = bucket{0, at.hi - lo}, r.grads
			}
			if err := r.home.broadcast(ctx, from, to, at); err != nil {
				return err
			}
			r.progress.tick()
		}
	}
	if !keep {
		r.state.changed()
	}
	return nil
}

// agreed refuses two states of the step that all continue from.
func (r *round) agreed(from int, all []standing) error {
	target := all[from]
	for rank, s := range all {
		if s.has && s.step == target.step && s.digest != target.digest {
			return fmt.Errorf("%w: at step %d the state of rank %d (%s) differs from that of rank %d (%s); start again from a checkpoint",
				ErrDigest, s.step, rank, r.gen.Members[rank].Node, from, r.gen.Members[from].Node)
		}
	}
	return nil
}

// copyFrom spreads the state of rank from. Ranks that have it already take part
// without touching theirs, so that a transfer that breaks off harms nobody.
func (r *round) copyFrom(ctx context.Context, from int, all []standing) error {
	target := all[from]
	if !slices.ContainsFunc(all, func(s standing) bool { return !s.has || s.step != target.step }) {
		return nil
	}
	mine := all[r.rank]
	keep := mine.has && mine.step == target.step
	if !keep {
		r.ready = false
		r.progress.state(r.state, false)
	}
	if err := r.spread(ctx, from, keep); err != nil || keep {
		return err
	}
	r.state.Step, r.state.Updates, r.state.InARow = target.step, target.upd, target.skip
	r.state.Generation, r.state.lineage = target.generation, nil // chooseKeepers brings it
	got, err := r.state.digest()
	if err != nil {
		return err
	}
	if got != target.digest {
		return fmt.Errorf("%w: the state copied from rank %d (%s) at step %d arrived changed", ErrDigest, from, r.gen.Members[from].Node, target.step)
	}
	r.ready = true
	r.progress.state(r.state, true)
	r.log.Info("copied the state of a peer", "from", r.gen.Members[from].Node, "step", target.step)
	return nil
}
