package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// nodes are the agents of a run of several nodes on this host, each with a directory
// of its own. Each is started with one command, again and again.
type nodes struct {
	t       *testing.T
	dirs    []string
	command [][]string
	agents  []*process
}

// startNodes starts a run of n nodes with a worker each, and waits until all train.
func startNodes(t *testing.T, n int, more ...string) *nodes {
	t.Helper()
	s := &nodes{t: t}
	root := t.TempDir()
	for i := range n {
		dir := filepath.Join(root, strconv.Itoa(i))
		args := append([]string{"--nodes", fmt.Sprintf("1:%d", n), "--workers", "1"}, more...)
		if i > 0 {
			args = append(args, "--join", s.agents[0].says(`--join (\S+)`))
		}
		s.dirs = append(s.dirs, dir)
		s.command = append(s.command, training(dir, args...))
		s.agents = append(s.agents, start(t, s.command[i]...))
	}
	s.world(s.agents[0], n, 0)
	return s
}

// again gives the command of a node once more.
func (s *nodes) again(i int) *process {
	s.agents[i] = start(s.t, s.command[i]...)
	return s.agents[i]
}

// all reads the events of all directories: rank 0, who writes them, moves.
func (s *nodes) all() (list []metrics.Event) {
	for _, dir := range s.dirs {
		list = append(list, events(s.t, dir)...)
	}
	return list
}

// world waits for a generation of a size that is newer than another one.
func (s *nodes) world(while *process, size int, after uint64) (found metrics.Event) {
	s.t.Helper()
	while.await(fmt.Sprintf("a world of %d", size), func() bool {
		for _, e := range s.all() {
			if e.Event == metrics.EventGeneration && e.WorldSize == size && e.Generation > after {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// step waits for a step of a generation.
func (s *nodes) step(while *process, generation uint64, n int64) {
	s.t.Helper()
	while.await(fmt.Sprintf("step %d of generation %d", n, generation), func() bool {
		for _, e := range s.all() {
			if e.Event == metrics.EventStep && e.Generation >= generation && e.Step >= n {
				return true
			}
		}
		return false
	})
}

// takenOver waits until one of these nodes holds the coordinator, and returns which.
func (s *nodes) takenOver(among ...int) (holder int) {
	s.t.Helper()
	s.agents[among[0]].await("a node that takes over", func() bool {
		for _, i := range among {
			if strings.Contains(s.agents[i].stderr.String(), "this node takes over") {
				holder = i
				return true
			}
		}
		return false
	})
	return holder
}

// saved is of the checkpoint that a stop wrote, wherever that is, and the step.
func (s *nodes) saved() (step int64, digest string) {
	s.t.Helper()
	for _, dir := range s.dirs {
		if n, d := newestOn(s.t, dir); n > step {
			step, digest = n, d
		}
	}
	return step, digest
}

// newestOn is a directory's newest checkpoint, which verifies; -1: there is none.
func newestOn(t *testing.T, dir string) (step int64, digest string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "checkpoints", "step-*"))
	require.NoError(t, err)
	step = -1
	for _, path := range paths {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), "step-"), 10, 64)
		require.NoError(t, err)
		step = max(step, n)
	}
	if step >= 0 {
		digest = newestDigest(t, dir)
	}
	return step, digest
}

// requireAlone requires that one worker that was never disturbed gets there too.
func requireAlone(t *testing.T, step int64, digest string) {
	t.Helper()
	alone := filepath.Join(t.TempDir(), "alone")
	run(t, training(alone, "--workers", "1", "--set", "train.steps="+itoa(step))...).ended(exitOK)
	require.Equal(t, finish(t, alone).ModelDigest, digest)
}

// The node that holds the coordinator is killed, and the one that took over after it:
// each time the others go on without it, nobody gives a command, and the same
// commands bring the lost nodes back. Two steps never differ from those of one worker.
func TestAnyAgentTakesOver(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 3, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 3, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+2)
	worker := pids(t, whole)

	s.agents[0].signal(syscall.SIGKILL)
	s.agents[0].wait()
	began := time.Now()
	two := s.world(s.agents[1], 2, whole.Generation)
	t.Logf("a generation of two after %s", time.Since(began))
	require.Equal(t, worker[1:], pids(t, two), "the survivors' workers were not restarted")
	s.takenOver(1, 2)
	s.step(s.agents[1], two.Generation, two.Step+3)

	s.again(0)
	three := s.world(s.agents[0], 3, two.Generation)
	require.Equal(t, worker[1:], pids(t, three)[:2])
	s.step(s.agents[0], three.Generation, three.Step+2)

	holder, other := s.takenOver(1, 2), 0
	s.agents[holder].signal(syscall.SIGKILL)
	s.agents[holder].wait()
	rest := s.world(s.agents[other], 2, three.Generation)
	s.step(s.agents[other], rest.Generation, rest.Step+3)
	s.agents[other].signal(syscall.SIGINT)
	s.agents[other].ended(exitSignal)
	s.agents[3-holder].ended(exitSignal)
	step, digest := s.saved()
	requireAlone(t, step, digest)
}

// The holder's agent hangs: the others take over, and it stands down when it wakes.
func TestHungCoordinatorStandsDown(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 3, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 3, 0)
	s.agents[0].signal(syscall.SIGSTOP)
	holder := s.takenOver(1, 2)
	// A worker dies: a change of members needs a coordinator.
	alone := s.world(s.agents[holder], 2, whole.Generation)
	s.step(s.agents[holder], alone.Generation, alone.Step+2) // now two of two have a majority
	require.NoError(t, syscall.Kill(pids(t, alone)[1], syscall.SIGKILL))
	next := s.world(s.agents[holder], 2, alone.Generation)
	s.step(s.agents[holder], next.Generation, next.Step+2)
	s.agents[0].signal(syscall.SIGCONT)
	s.agents[0].says("stands down")
	again := s.world(s.agents[holder], 3, next.Generation)
	s.step(s.agents[holder], again.Generation, again.Step+2)
	s.agents[0].signal(syscall.SIGINT)
	for _, p := range s.agents {
		p.ended(exitSignal)
	}
	step, digest := s.saved()
	requireAlone(t, step, digest)
}

// The power fails everywhere, and the same commands are given again, in any order.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 2, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 2, 0)
	s.agents[0].saved(s.dirs[0])
	for _, p := range s.agents {
		p.signal(syscall.SIGKILL)
	}
	for _, p := range s.agents {
		p.wait()
	}
	s.again(1)
	s.again(0)
	again := s.world(s.agents[0], 2, whole.Generation)
	require.Equal(t, seats(whole), seats(again), "the same nodes")
	require.NotEqual(t, pids(t, whole), pids(t, again))
	require.Positive(t, again.Step, "resumed")
	s.step(s.agents[0], again.Generation, again.Step+2)
	s.agents[0].signal(syscall.SIGINT)
	for _, p := range s.agents {
		p.ended(exitSignal)
	}
	step, digest := s.saved()
	requireAlone(t, step, digest)
}

// seats are a generation's members without their process ids.
func seats(e metrics.Event) (out []string) {
	for _, m := range e.Members {
		seat, _, _ := strings.Cut(m, " ")
		out = append(out, seat)
	}
	return out
}

// A node that was cut off while the run finished hears of it from those that stay for
// a while.
func TestFinishIsHeardLater(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 3)
	s.agents[2].signal(syscall.SIGSTOP) // and its worker with it: the node is gone for the others
	whole := s.world(s.agents[0], 3, 0)
	require.NoError(t, syscall.Kill(pids(t, whole)[2], syscall.SIGSTOP))
	s.agents[0].says("the run is over; staying")
	s.agents[2].signal(syscall.SIGCONT)
	s.agents[2].ended(exitOK)
	s.agents[0].ended(exitOK)
	s.agents[1].ended(exitOK)
	requireGone(t, pids(t, whole)[2])
	require.Contains(t, s.agents[2].stdout.String(), finish(t, s.dirs[0]).ModelDigest)
	require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, s.dirs[0]).ModelDigest)
}

// A node that reaches nobody for too long saves what it has and leaves.
func TestOrphan(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 2, "--set", "train.steps=100000", "--set", "cluster.orphan_timeout=2s")
	whole := s.world(s.agents[0], 2, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+2)
	s.agents[0].signal(syscall.SIGKILL)
	s.agents[0].wait()
	require.NotZero(t, s.agents[1].wait())
	require.Contains(t, s.agents[1].stderr.String(), "cluster.orphan_timeout")
	last := int64(-1) // that the killed rank 0 told of
	for _, e := range s.all() {
		if e.Event == metrics.EventStep {
			last = max(last, e.Step)
		}
	}
	step, digest := newestOn(t, s.dirs[1])
	require.GreaterOrEqual(t, step, last-1, "saved, but for a step that rank 0 may have died in")
	requireAlone(t, step, digest)
}

// SIGTERM takes one node out of an elastic run, be it the one that holds the
// coordinator; the others continue at once, and the last one saves and stops.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := startNodes(t, 3, "--set", "train.steps=100000")
	whole := s.world(s.agents[0], 3, 0)
	s.step(s.agents[0], whole.Generation, whole.Step+2)

	s.agents[1].signal(syscall.SIGTERM)
	s.agents[1].ended(exitSignal)
	require.Contains(t, s.agents[1].stderr.String(), "this node has left the run")
	two := s.world(s.agents[0], 2, whole.Generation)
	require.Regexp(t, "(left|leaves) the run", two.Reason)
	s.step(s.agents[0], two.Generation, two.Step+2)

	s.agents[0].signal(syscall.SIGTERM)
	s.agents[0].ended(exitSignal)
	require.Contains(t, s.agents[0].stderr.String(), "the others continue")
	one := s.world(s.agents[2], 1, two.Generation)
	s.step(s.agents[2], one.Generation, one.Step+2)

	s.again(1) // and it may come back
	again := s.world(s.agents[2], 2, one.Generation)
	s.step(s.agents[2], again.Generation, again.Step+2)
	s.agents[1].signal(syscall.SIGTERM)
	s.agents[1].ended(exitSignal)
	s.agents[2].says("generation .*(left|leaves) the run")

	s.agents[2].signal(syscall.SIGTERM)
	s.agents[2].ended(exitSignal)
	require.Contains(t, s.agents[2].stderr.String(), "stopped after step")
	step, digest := s.saved()
	requireAlone(t, step, digest)
}
