package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// All workers of a run on two nodes are killed at once. Nothing is on a disk, but the
// agents hold the state of a few steps before: the run continues from there, and ends as
// one that nobody disturbed.
func TestAllWorkersKilled(t *testing.T) {
	t.Parallel()
	const every = 20
	s := startNodes(t, 2, "--set", "train.steps=100000", "--set", "checkpoint.every=0", "--set", "checkpoint.memory_every="+itoa(every))
	whole := s.world(s.agents[0], 2, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+3*every)
	for _, pid := range pids(t, whole) {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	var again metrics.Event
	s.agents[0].await("a generation of new workers", func() bool {
		for _, e := range s.all() {
			if e.Event == metrics.EventGeneration && e.Generation > whole.Generation {
				again = e
				return true
			}
		}
		return false
	})
	both := s.world(s.agents[0], 2, again.Generation-1)
	s.step(s.agents[0], both.Generation, both.Step+every)
	last := int64(0)
	for _, e := range s.all() {
		if e.Event == metrics.EventStep && e.Generation == whole.Generation {
			last = max(last, e.Step)
		}
	}
	t.Logf("killed after step %d, continued from step %d", last, again.Step)
	require.Zero(t, again.Step%every)
	require.Positive(t, again.Step)
	require.GreaterOrEqual(t, again.Step, last-2*every, "the newest copy may not have been whole")
	s.agents[0].signal(syscall.SIGINT)
	for _, p := range s.agents {
		p.ended(exitSignal)
	}
	step, digest := s.saved()
	require.Greater(t, step, again.Step)
	requireAlone(t, step, digest)
}
