package trainer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
)

// A state remembers the fingerprints that it had when it was saved: its lineage. It goes
// with the state, to ranks that join and into checkpoints. Of two checkpoints of different
// steps, the later one continues the earlier one only if it remembers it; one that
// remembers another state of that step is of another history of the run: of other kernels
// (--allow-other-bits), of a ring on another number of workers.
//
// Training is a function of configuration and seed, so two histories rarely differ, and a
// run that was begun again from scratch has the same one.

// mark is the state's fingerprint after a step at which it was saved.
type mark struct {
	step   int64
	digest [16]byte
}

const (
	// maxMarks is how many a state remembers, the newest.
	maxMarks  = 32
	markBytes = 8 + 16
	// metaLineage is the lineage among a checkpoint's texts. The number is that of the
	// form and of State.digest: fingerprints of different kinds must not be compared.
	metaLineage = "lineage.1"
)

// remember adds a mark. What was remembered of this step and of later ones belongs to a
// history that has been left.
func (s *State) remember(digest [16]byte) {
	s.lineage = slices.DeleteFunc(s.lineage, func(m mark) bool { return m.step >= s.Step })
	if s.InARow == 0 { // a checkpoint does not hold that number, and the fingerprint does
		s.lineage = append(s.lineage, mark{s.Step, digest})
	}
	s.lineage = s.lineage[max(0, len(s.lineage)-maxMarks):]
}

// continues tells whether a state that remembers marks may be a later state of the one
// that had a fingerprint at a step.
func continues(marks []mark, step int64, digest [16]byte) bool {
	return !slices.ContainsFunc(marks, func(m mark) bool { return m.step == step && m.digest != digest })
}

// lineageMeta is the lineage as a checkpoint keeps it: STEP:DIGEST, oldest first; nil where
// there is none.
func (s *State) lineageMeta() map[string]string {
	if len(s.lineage) == 0 {
		return nil
	}
	words := make([]string, len(s.lineage))
	for i, m := range s.lineage {
		words[i] = fmt.Sprintf("%d:%x", m.step, m.digest)
	}
	return map[string]string{metaLineage: strings.Join(words, " ")}
}

// lineageOf reads the lineage of a checkpoint; none where it has none, or one that makes no
// sense.
func lineageOf(snap *checkpoint.Snapshot) (marks []mark) {
	for word := range strings.FieldsSeq(snap.Meta[metaLineage]) {
		text, sum, _ := strings.Cut(word, ":")
		step, err := strconv.ParseInt(text, 10, 64)
		digest, hexErr := hex.DecodeString(sum)
		if err != nil || hexErr != nil || len(digest) != 16 || step > snap.Step {
			return nil
		}
		marks = append(marks, mark{step, [16]byte(digest)})
	}
	return marks[max(0, len(marks)-maxMarks):]
}

// compareAndRemember is compare for a state that is about to be saved.
func (r *round) compareAndRemember(ctx context.Context) error {
	var own [16]byte
	if err := r.compare(ctx, func() (d [16]byte, err error) {
		own, err = r.state.digest()
		return own, err
	}); err != nil {
		return err
	}
	r.state.remember(own)
	return nil
}

// lineageFrom returns the lineage of one rank's state, on every rank.
func (r *round) lineageFrom(ctx context.Context, from int) (marks []mark, err error) {
	word := []byte{0} // what is sent is never empty
	if r.rank == from {
		for _, m := range r.state.lineage {
			word = binary.LittleEndian.AppendUint64(word, uint64(m.step))
			word = append(word, m.digest[:]...)
		}
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return nil, err
	}
	b := words[from]
	if len(b)%markBytes != 1 || len(b) > 1+maxMarks*markBytes {
		return nil, fmt.Errorf("trainer: the lineage of rank %d has %d bytes", from, len(b))
	}
	for b = b[1:]; len(b) > 0; b = b[markBytes:] {
		marks = append(marks, mark{int64(binary.LittleEndian.Uint64(b)), [16]byte(b[8:markBytes])})
	}
	return marks, nil
}

// descends refuses to begin a run from a checkpoint that does not continue an earlier one
// of another node.
func (r *round) descends(ctx context.Context, from int, all []standing) error {
	marks, err := r.lineageFrom(ctx, from)
	if err != nil {
		return err
	}
	newest, at := all[from], r.gen.Members[from].Node
	for rank, s := range all {
		if s.has && s.step < newest.step && !continues(marks, s.step, s.digest) {
			return fmt.Errorf("%w: node %s's checkpoint of step %d does not continue node %s's of step %d: at that step its state was another one "+
				"(other kernels, or a ring of another number of workers); move the one that is not wanted out of its --out directory",
				ErrHistories, at, newest.step, r.gen.Members[rank].Node, s.step)
		}
	}
	return nil
}
