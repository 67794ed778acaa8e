package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// agrdist stop saves and ends a run on all its nodes, whichever directory it is given,
// elastic or not.
func TestStopCommand(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 2, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 2, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+2)
	p := run(t, "stop", s.dirs[1]).ended(exitOK)
	require.Contains(t, p.stdout.String(), "has ended")
	s.agents[0].ended(exitSignal)
	s.agents[1].ended(exitSignal)
	step, digest := s.saved()
	requireAlone(t, step, digest)

	p = run(t, "stop", s.dirs[1]).ended(exitFailed)
	require.Contains(t, p.stderr.String(), "it does not run here")
	run(t, "stop", filepath.Join(t.TempDir(), "nowhere")).ended(exitUsage)
}
