package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// stop stops the run and returns the newest checkpoint of each node.
func (s *nodes) stop() (steps []int64) {
	s.t.Helper()
	s.agents[0].signal(syscall.SIGINT)
	for i, p := range s.agents {
		p.ended(exitSignal)
		step, _ := newestOn(s.t, s.dirs[i])
		steps = append(steps, step)
	}
	return steps
}

// The nodes of a run share no directory, and rank 0, which saves, moves between them.
// The same commands continue from the newest checkpoint, whichever node has it.
func TestNewestCheckpointOfAnyNode(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 2, "--nodes", "2", "--set", "train.steps=100000", "--set", "checkpoint.every=100000", "--set", "checkpoint.replicas=1")
	first := s.world(s.agents[0], 2, 0)
	s.step(s.agents[0], first.Generation, 3)

	// The node of rank 0 is lost and comes back: rank 0 is then on the other one.
	s.agents[0].signal(syscall.SIGKILL)
	s.agents[0].wait()
	s.again(0)
	moved := s.world(s.agents[0], 2, first.Generation)
	require.Equal(t, seats(first)[1], seats(moved)[0])
	s.step(s.agents[1], moved.Generation, moved.Step+2)
	steps := s.stop()
	require.Negative(t, steps[0])
	require.Positive(t, steps[1])

	for range 2 { // once with the checkpoint on the node of rank 0, once on the other
		newest := max(steps[0], steps[1])
		last := s.generations()
		s.again(1)
		s.again(0)
		again := s.world(s.agents[0], 2, last)
		require.Equal(t, newest, again.Step, "resumed from the newest")
		s.step(s.agents[0], again.Generation, again.Step+2)
		steps = s.stop()
		require.Greater(t, max(steps[0], steps[1]), newest)
		from, to := 0, 1
		if steps[1] > steps[0] {
			from, to = 1, 0
		}
		name := fmt.Sprintf("step-%d", steps[from])
		require.NoError(t, os.MkdirAll(filepath.Join(s.dirs[to], "checkpoints"), 0o755))
		require.NoError(t, os.Rename(filepath.Join(s.dirs[from], "checkpoints", name), filepath.Join(s.dirs[to], "checkpoints", name)))
	}
	step, digest := s.saved()
	requireAlone(t, step, digest)
}

// generations is the newest generation that any node tells of.
func (s *nodes) generations() (n uint64) {
	for _, e := range s.all() {
		n = max(n, e.Generation)
	}
	return n
}
