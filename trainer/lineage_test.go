package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
)

func TestLineage(t *testing.T) {
	s := &State{}
	digest := func(n byte) (d [16]byte) { d[0] = n; return d }
	for step := range int64(3) {
		s.Step = step + 1
		s.remember(digest(byte(step)))
	}
	require.Equal(t, []mark{{1, digest(0)}, {2, digest(1)}, {3, digest(2)}}, s.lineage)
	require.True(t, continues(s.lineage, 2, digest(1)))
	require.False(t, continues(s.lineage, 2, digest(9)))
	require.True(t, continues(s.lineage, 7, digest(9)), "of a step that it says nothing about")

	// It goes through a checkpoint.
	snap := &checkpoint.Snapshot{Step: 3, Meta: s.lineageMeta()}
	require.Equal(t, s.lineage, lineageOf(snap))
	for _, bad := range []string{"x", "1", "1:zz", "1:00", "9:" + snap.Meta[metaLineage][2:34]} {
		require.Empty(t, lineageOf(&checkpoint.Snapshot{Step: 3, Meta: map[string]string{metaLineage: bad}}), bad)
	}
	require.Empty(t, lineageOf(&checkpoint.Snapshot{Step: 3}), "of an earlier version")

	// Steps that are made again belong to another history, perhaps.
	s.Step = 2
	s.remember(digest(7))
	require.Equal(t, []mark{{1, digest(0)}, {2, digest(7)}}, s.lineage)
	// A state in the middle of skipped steps has no fingerprint that a checkpoint gives back.
	s.Step, s.InARow = 3, 1
	s.remember(digest(8))
	require.Len(t, s.lineage, 2)

	s.InARow = 0
	for range 3 * maxMarks {
		s.Step++
		s.remember(digest(1))
	}
	require.Len(t, s.lineage, maxMarks)
	require.Equal(t, s.Step, s.lineage[maxMarks-1].step)
}

// A rank that joins copies the state's lineage with the state, and writes it when it has
// become the one that saves.
func TestLineageGoesWithTheState(t *testing.T) {
	cfg := smallConfig(12)
	cfg.CheckpointEvery = 2
	w := newWorld(t, cfg.Chunks())
	first, second := w.add(cfg), w.add(cfg)
	stores := []*memory{{}, {}}
	onNode(first, "n0", stores[0])
	onNode(second, "n1", stores[1])
	joined, lost := make(chan struct{}), make(chan struct{})
	atStep(first, 5, func() { close(joined) })
	w.form(first)
	<-joined
	atStep(second, 9, func() {
		first.kill()
		close(lost)
	})
	w.form(first, second)
	<-lost
	w.form(second)
	w.wait(second)
	require.NoError(t, second.err)
	last := stores[1].saved[len(stores[1].saved)-1]
	require.Equal(t, cfg.Steps, last.Step)
	var steps []int64
	for _, m := range lineageOf(last) {
		steps = append(steps, m.step)
	}
	require.Equal(t, []int64{2, 4, 6, 8, 10, 12}, steps)
}
