package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// startSpare starts two nodes that train and one that is a spare, and waits until the
// spare has the state.
func startSpare(t *testing.T, more ...string) *nodes {
	t.Helper()
	s := &nodes{t: t}
	root := t.TempDir()
	for i := range 3 {
		dir := filepath.Join(root, strconv.Itoa(i))
		args := append([]string{"--nodes", "2", "--spares", "1", "--workers", "1", "--set", "cluster.node=n" + strconv.Itoa(i)}, more...)
		if i > 0 {
			args = append(args, "--join", s.agents[0].says(`--join (\S+)`))
		}
		s.dirs = append(s.dirs, dir)
		s.command = append(s.command, training(dir, args...))
		s.agents = append(s.agents, start(t, s.command[i]...))
		if i == 1 {
			s.world(s.agents[0], 2, 0) // the third node is the spare
		}
	}
	s.learned(s.agents[0], 2, 1)
	return s
}

// learned waits until the worker of a node has copied the state, for the n-th time over
// all its processes.
func (s *nodes) learned(while *process, node, n int) {
	s.t.Helper()
	while.await("a spare that has the state", func() bool {
		logs, err := filepath.Glob(filepath.Join(s.dirs[node], "logs", "*worker-0.log"))
		require.NoError(s.t, err)
		times := 0
		for _, f := range logs {
			text, err := os.ReadFile(f)
			require.NoError(s.t, err)
			times += strings.Count(string(text), "copied the state of a peer")
		}
		return times >= n
	})
}

// standstill is the pause between the last step before a generation and its first.
func standstill(t *testing.T, events []metrics.Event, generation uint64) time.Duration {
	t.Helper()
	var last time.Time
	for _, e := range events {
		if e.Event != metrics.EventStep {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		require.NoError(t, err)
		if e.Generation >= generation {
			return at.Sub(last)
		}
		last = at
	}
	return 0
}

// A spare takes the place of a lost worker, or of a lost node, with the state that it
// holds: the world has its size again in one generation, no step is lost, no checkpoint
// is read, and the model is the same.
func TestSpareTakesOver(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"worker", "node"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			s := startSpare(t, "--set", "train.steps=100000", "--set", "checkpoint.every=0")
			before := s.world(s.agents[0], 2, 0)
			for _, e := range s.all() {
				if e.Event == metrics.EventGeneration && e.Generation > before.Generation {
					before = e
				}
			}
			require.Equal(t, 1, before.Spares)
			require.Len(t, before.Members, 3)
			if lost == "node" {
				require.NoError(t, s.agents[1].cmd.Process.Kill())
			} else {
				require.NoError(t, syscall.Kill(pids(t, before)[1], syscall.SIGKILL))
			}
			after := s.world(s.agents[0], 2, before.Generation)
			require.Equal(t, []string{seats(before)[0], "n2/0"}, seats(after)[:2], "the spare computes")
			s.step(s.agents[0], after.Generation, after.Step+1)
			if lost == "worker" { // who is back is the spare now
				s.learned(s.agents[0], 1, 1)
			}
			s.agents[0].signal(syscall.SIGINT)
			s.agents[0].ended(exitSignal)
			s.agents[2].ended(exitSignal)
			step, digest := s.saved()
			times := map[int64]int{}
			list := events(t, s.dirs[0])
			for _, e := range list {
				if e.Event == metrics.EventStep {
					times[e.Step]++
				}
			}
			for n := int64(1); n <= step; n++ {
				require.Equal(t, 1, times[n], "step %d", n)
			}
			requireAlone(t, step, digest)
			t.Logf("standstill after the loss of a %s: %s", lost, standstill(t, list, after.Generation))
		})
	}
}
