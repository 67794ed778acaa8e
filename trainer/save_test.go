package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
)

// onNode puts a rank on a node, with a store there.
func onNode(r *rank, node string, s *memory) {
	r.member.Node = node
	r.trainer.parts.Node, r.trainer.parts.Store = node, s
}

// stopping returns a world of ranks, each on its own node, of which the last is asked
// to stop after step 2.
func stopping(t *testing.T, cfg Config, stores ...*memory) []*rank {
	t.Helper()
	w := newWorld(t, cfg.Chunks())
	ranks := make([]*rank, len(stores))
	for i, s := range stores {
		ranks[i] = w.add(cfg)
		onNode(ranks[i], fmt.Sprintf("n%d", i), s)
	}
	last := ranks[len(ranks)-1]
	atStep(last, 2, last.trainer.RequestStop)
	return ranks
}

// The rank that writes dies before its word: the next one writes.
func TestWriterDiesInAStop(t *testing.T) {
	cfg := smallConfig(9)
	writing := make(chan struct{})
	stores := []*memory{{now: func(ctx context.Context, _ time.Duration) error {
		close(writing)
		<-ctx.Done()
		return context.Cause(ctx)
	}}, {}, {}}
	ranks := stopping(t, cfg, stores...)
	w := ranks[0].w
	w.form(ranks...)
	<-writing
	for _, r := range ranks[1:] {
		require.False(t, r.stoppingReported(), "a rank that may have to write does not say that it leaves")
	}
	ranks[0].kill()
	w.form(ranks[1:]...)
	w.wait(ranks[1:]...)
	require.Empty(t, stores[0].saved)
	require.Len(t, stores[1].saved, 1)
	for _, r := range ranks[1:] {
		require.NoError(t, r.err)
		require.Equal(t, Stopped, r.outcome)
		s := r.trainer.State().Step
		require.Equal(t, stores[1].saved[0].Step, s)
		require.Equal(t, &Saved{Step: s, Node: "n1", Path: fmt.Sprintf("memory/step-%d", s)}, r.trainer.Saved())
		require.Equal(t, []Saved{*r.trainer.Saved()}, r.heard)
		require.True(t, r.stoppingReported())
	}
}

func (r *rank) stoppingReported() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Stopping
}

// Nobody forms a generation any more: each rank writes what it holds.
func TestStopWithoutAGroup(t *testing.T) {
	cfg := smallConfig(9)
	stores := []*memory{{}, {}, {}}
	w := newWorld(t, cfg.Chunks())
	var ranks []*rank
	for i, s := range stores {
		ranks = append(ranks, w.add(cfg))
		onNode(ranks[i], fmt.Sprintf("n%d", i), s)
	}
	stuck := make(chan struct{})
	atStep(ranks[0], 3, func() {
		ranks[0].kill()
		close(stuck)
	})
	w.form(ranks...)
	<-stuck
	for _, r := range ranks[1:] {
		r.trainer.RequestStop()
	}
	w.wait(ranks[1:]...)
	for i, r := range ranks[1:] {
		require.NoError(t, r.err)
		require.Equal(t, Stopped, r.outcome)
		require.Len(t, stores[i+1].saved, 1)
		require.Equal(t, fmt.Sprintf("n%d", i+1), r.trainer.Saved().Node)
		require.True(t, r.stoppingReported(), "the coordinator hears that the state is saved")
	}
}

// Where rank 0's disk fails another node's takes the state; of several ranks of a node
// only one tries.
func TestAnotherNodeSaves(t *testing.T) {
	cfg := smallConfig(9)
	broken := errors.New("the disk is gone")
	fails := func(context.Context, time.Duration) error { return broken }
	stores := []*memory{{now: fails}, {}, {}}
	ranks := stopping(t, cfg, stores...)
	ranks[1].member.Node = "n0" // beside rank 0
	w := ranks[0].w
	w.form(ranks...)
	w.wait(ranks...)
	require.Empty(t, stores[1].saved)
	require.Len(t, stores[2].saved, 1)
	for _, r := range ranks {
		require.NoError(t, r.err)
		require.Equal(t, "n2", r.trainer.Saved().Node)
	}
}

// Where nobody can save, nobody says so.
func TestNothingSaved(t *testing.T) {
	cfg := smallConfig(9)
	broken := errors.New("the disk is gone")
	fails := func(context.Context, time.Duration) error { return broken }
	ranks := stopping(t, cfg, &memory{now: fails}, &memory{now: fails})
	w := ranks[0].w
	w.form(ranks...)
	w.wait(ranks...)
	for _, r := range ranks {
		var unsaved *UnsavedError
		require.ErrorAs(t, r.err, &unsaved)
		require.ErrorIs(t, r.err, broken, "each tried")
		require.ErrorContains(t, r.err, "was not saved: node n0: the disk is gone; node n1: the disk is gone")
		require.Nil(t, r.trainer.Saved())
		require.Empty(t, r.heard)
		require.False(t, r.stoppingReported())
	}
}

// On full disks everybody tries at once; then the first waits for room.
func TestFullDiskWaits(t *testing.T) {
	cfg := smallConfig(9)
	cfg.FullDiskWait = time.Hour
	var waits []time.Duration
	full := func(_ context.Context, wait time.Duration) error {
		if waits = append(waits, wait); wait > 0 {
			return nil // there is room at last
		}
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	stores := []*memory{{now: full}, {now: full}}
	ranks := stopping(t, cfg, stores...)
	w := ranks[0].w
	w.form(ranks...)
	w.wait(ranks...)
	require.Equal(t, []time.Duration{0, 0, time.Hour}, waits)
	require.Len(t, stores[0].saved, 1)
	for _, r := range ranks {
		require.NoError(t, r.err)
		require.Equal(t, "n0", r.trainer.Saved().Node)
	}
}

// A stop does not wait for a task, on any rank.
func TestStopInterruptsTasks(t *testing.T) {
	cfg := smallConfig(9)
	store := &memory{}
	w := newWorld(t, cfg.Chunks())
	started := make(chan struct{}, 3)
	slow := Task{
		Name: "slow", Phase: cluster.PhaseSample, Every: 2, Count: 3, Each: 1,
		Share: func(ctx context.Context, _ *State, _, _ int) ([]float32, error) {
			started <- struct{}{}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
		Merge: func(int64, []float32) error { return errors.New("there is nothing to merge") },
	}
	var ranks []*rank
	for range 3 {
		ranks = append(ranks, w.add(cfg, func(_ *Config, p *Parts) { p.Tasks, p.Store = []Task{slow}, store }))
	}
	w.form(ranks...)
	for range ranks {
		<-started
	}
	ranks[1].trainer.RequestStop()
	w.wait(ranks...)
	require.Len(t, store.saved, 1)
	require.Equal(t, int64(3), store.saved[0].Step, "the step after the task")
	for _, r := range ranks {
		require.NoError(t, r.err)
		require.Equal(t, Stopped, r.outcome)
	}
}

// A checkpoint on request changes nothing else.
func TestRequestSave(t *testing.T) {
	cfg := smallConfig(6)
	want := runs(t, 1, cfg)
	store := &memory{}
	w := newWorld(t, cfg.Chunks())
	a, b := w.add(cfg, func(_ *Config, p *Parts) { p.Store = store }), w.add(cfg)
	atStep(b, 2, b.trainer.RequestSave) // not the rank that saves
	w.form(a, b)
	w.wait(a, b)
	require.NoError(t, a.err)
	require.Equal(t, want, a.digest)
	var steps []int64
	for _, s := range store.saved {
		steps = append(steps, s.Step)
	}
	require.Equal(t, []int64{3, 6}, steps, "after the next step, once, and at the end")
}

// A checkpoint is on as many disks as are wanted and there are; the next disk takes the
// place of one that fails, and nodes that share a disk count as one.
func TestReplicas(t *testing.T) {
	fails := func(context.Context, time.Duration) error { return errors.New("the disk is gone") }
	shared := &memory{}
	for name, c := range map[string]struct {
		replicas int
		stores   []*memory
		node     string
		also     []string
		holders  []int // of stores, with the state of the stop
	}{
		"one":                 {1, []*memory{{}, {}, {}}, "n0", nil, []int{0}},
		"two of three":        {2, []*memory{{}, {}, {}}, "n0", []string{"n1"}, []int{0, 1}},
		"more than there are": {5, []*memory{{}, {}}, "n0", []string{"n1"}, []int{0, 1}},
		"one fails":           {2, []*memory{{now: fails}, {}, {}}, "n1", []string{"n2"}, []int{1, 2}},
		"the second fails":    {2, []*memory{{}, {now: fails}, {}}, "n0", []string{"n2"}, []int{0, 2}},
		"two fail":            {2, []*memory{{now: fails}, {}, {now: fails}}, "n1", nil, []int{1}},
		"shared":              {2, []*memory{shared, shared, {}}, "n0", []string{"n2"}, []int{0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := smallConfig(9)
			cfg.Replicas, cfg.CheckpointEvery = c.replicas, 1
			ranks := stopping(t, cfg, c.stores...)
			w := ranks[0].w
			w.form(ranks...)
			w.wait(ranks...)
			step := ranks[0].trainer.State().Step
			want := Saved{Step: step, Node: c.node, Path: fmt.Sprintf("memory/step-%d", step), Also: c.also}
			for _, r := range ranks {
				require.NoError(t, r.err)
				require.Equal(t, Stopped, r.outcome)
				require.Equal(t, want, *r.trainer.Saved())
			}
			for i, s := range c.stores {
				holds := slices.ContainsFunc(s.saved, func(s *checkpoint.Snapshot) bool { return s.Step == step })
				require.Equal(t, slices.Contains(c.holders, i) || s == shared, holds, "n%d", i)
				// While training the first disks are written to, and nothing is tried twice.
				writes := i < c.replicas && s != shared || s == shared && i == 0
				during := slices.ContainsFunc(s.saved, func(s *checkpoint.Snapshot) bool { return s.Step == 1 })
				if s != shared && c.stores[0] != shared {
					require.Equal(t, writes, during, "n%d", i)
				}
			}
			require.LessOrEqual(t, len(shared.saved), int(step), "two nodes do not write one disk")
		})
	}
}
