package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// requireGone waits until a process has ended; a zombie has.
func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		if stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
			_, state, _ := strings.Cut(string(stat), ") ")
			return strings.HasPrefix(state, "Z")
		}
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}, 20*time.Second, 5*time.Millisecond, "process %d is left behind", pid)
}

// A worker that is killed, rank 0 or another, is replaced; the other one is not
// restarted, no checkpoint is read, and the model is the same.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	for rank, name := range []string{"rank 0", "rank 1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "run")
			p := start(t, training(dir)...)
			members := pids(t, p.generation(dir, 1))
			p.step(dir, 3)
			require.NoError(t, syscall.Kill(members[rank], syscall.SIGKILL))
			p.ended(exitOK)

			next := p.generation(dir, 2)
			require.Equal(t, members[1-rank], pids(t, next)[0], "the survivor goes on, first in rank")
			require.Len(t, next.Members, 1)
			require.Contains(t, next.Reason, "was killed by SIGKILL")
			require.Contains(t, p.stderr.String(), "was ended by SIGKILL")
			requireSurvivor(t, dir, next, requireSame(t, dir))
			if rank == 1 {
				require.Equal(t, 1, starts(t, dir))
			}
		})
	}
}

// requireSurvivor requires that the run went on from the memory of the survivor:
// after the generation comes the step after the last, and nothing is missing but
// the word of a rank 0 that died between a commit and its event.
func requireSurvivor(t *testing.T, dir string, next metrics.Event, times map[int64]int) {
	t.Helper()
	for s := int64(1); s <= tinySteps; s++ {
		n := times[s]
		if s == next.Step || s == next.Step+1 {
			require.LessOrEqual(t, n, 2, "step %d", s)
			continue
		}
		require.Equal(t, 1, n, "step %d", s)
	}
	after := false
	for _, e := range events(t, dir) {
		after = after || e.Event == metrics.EventGeneration && e.Generation == next.Generation
		if after && e.Event == metrics.EventStep {
			require.Equal(t, next.Step+1, e.Step)
			return
		}
	}
	t.Fatal("no step after the generation")
}

func starts(t *testing.T, dir string) (n int) {
	t.Helper()
	for _, e := range events(t, dir) {
		if e.Event == metrics.EventStart {
			n++
		}
	}
	return n
}

// A worker is lost after the last step, while the grid is drawn: the generation
// that follows commits no step and finishes the run all the same.
func TestKilledAfterTheLastStep(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "sample.count=32", "--set", "sample.steps=100")...)
	members := pids(t, p.generation(dir, 1))
	p.event(dir, "the last checkpoint", func(e metrics.Event) bool { return e.Event == metrics.EventCheckpoint && e.Step == tinySteps })
	require.NoError(t, syscall.Kill(members[1], syscall.SIGKILL))
	p.ended(exitOK)
	require.Equal(t, int64(tinySteps), p.generation(dir, 2).Step)
	require.Len(t, requireSame(t, dir), tinySteps)
	require.Equal(t, 1, starts(t, dir), "nobody read the checkpoint")
	require.FileExists(t, filepath.Join(dir, "samples", "step-32.png"))
}

// A lone worker that is killed comes back from its last checkpoint, in a run that
// was begun anew as well.
func TestKilledLoneWorker(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--workers", "1", "--resume", "never")...)
	members := pids(t, p.generation(dir, 1))
	p.saved(dir)
	require.NoError(t, syscall.Kill(members[0], syscall.SIGKILL))
	p.ended(exitOK)
	next := p.generation(dir, 2)
	require.NotEqual(t, members, pids(t, next))
	require.GreaterOrEqual(t, next.Step, int64(8), "it began at the checkpoint")
	requireSame(t, dir)
}

// The agent's death is that of its workers; the command goes on from the last
// checkpoint and repeats the steps after it, with the same numbers.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir)...)
	members := pids(t, p.generation(dir, 1))
	p.saved(dir)
	p.signal(syscall.SIGKILL)
	p.ended(-int(syscall.SIGKILL))
	for _, pid := range members {
		requireGone(t, pid)
	}
	p = run(t, training(dir, "--workers", "1")...).ended(exitOK) // nobody takes the second one's place
	require.Contains(t, p.stderr.String(), "agrdist: resuming")
	for s, n := range requireSame(t, dir) {
		require.LessOrEqual(t, n, 2, "step %d", s)
	}
	require.Equal(t, 2, starts(t, dir))
}

// A worker that hangs is found out, killed and replaced.
func TestHungWorker(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "cluster.step_deadline=2s")...)
	members := pids(t, p.generation(dir, 1))
	p.step(dir, 3)
	require.NoError(t, syscall.Kill(members[1], syscall.SIGSTOP))
	p.ended(exitOK)
	requireGone(t, members[1])
	next := p.generation(dir, 2)
	require.Equal(t, members[0], pids(t, next)[0])
	require.Contains(t, p.stderr.String(), "agrdist: killing")
	requireSurvivor(t, dir, next, requireSame(t, dir))
}

// A node is lost from a run, and another one takes its place under way.
func TestElasticNodes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "first")
	elastic := func(dir string, more ...string) []string {
		return training(dir, append([]string{"--nodes", "1:2", "--workers", "1", "--set", "train.steps=100000"}, more...)...)
	}
	a := start(t, elastic(dir)...)
	addr := a.says(`--join (\S+)`)
	b := start(t, elastic(filepath.Join(root, "second"), "--join", addr)...)
	world := func(size int, generation uint64) metrics.Event {
		return a.event(dir, "a generation of "+strconv.Itoa(size), func(e metrics.Event) bool {
			return e.Event == metrics.EventGeneration && e.WorldSize == size && e.Generation > generation
		})
	}
	joined := world(2, 0)
	a.step(dir, joined.Step+2)
	b.signal(syscall.SIGKILL)
	b.wait()
	lost := world(1, joined.Generation)
	require.Equal(t, pids(t, joined)[0], pids(t, lost)[0])
	c := start(t, elastic(filepath.Join(root, "third"), "--join", addr)...)
	again := world(2, lost.Generation)
	require.Contains(t, again.Reason, "has the state and computes from now on")
	require.Equal(t, pids(t, lost)[0], pids(t, again)[0])
	a.step(dir, again.Step+2)
	c.signal(syscall.SIGINT) // on any node stops them all
	c.ended(exitSignal)
	a.ended(exitSignal)

	// What three memberships trained is what one worker trains.
	list := events(t, dir)
	stop := list[len(list)-1]
	require.Equal(t, metrics.EventStop, stop.Event)
	alone := filepath.Join(root, "alone")
	run(t, training(alone, "--workers", "1", "--set", "train.steps="+itoa(stop.Step))...).ended(exitOK)
	require.Equal(t, finish(t, alone).ModelDigest, newestDigest(t, dir))
}

// The node that holds the coordinator is killed, worker and all. The other node's
// worker waits; when the same command is given again, it takes over the state of
// that worker, which was never restarted.
func TestKilledCoordinator(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one, two := filepath.Join(root, "one"), filepath.Join(root, "two")
	first := training(one, "--nodes", "1:2", "--workers", "1", "--set", "cluster.node=one", "--set", "cluster.gossip_port="+freePort(t))
	a := start(t, first...)
	b := start(t, training(two, "--nodes", "1:2", "--workers", "1", "--set", "cluster.node=two", "--join", a.says(`--join (\S+)`))...)
	a.step(one, 3)
	members := pids(t, a.generation(one, 1))
	require.Len(t, members, 2)
	a.signal(syscall.SIGKILL)
	a.wait()
	requireGone(t, members[0])
	a = start(t, first...)
	next := b.generation(two, 2)
	require.Equal(t, members[1], pids(t, next)[0], "the survivor leads now")
	a.ended(exitOK)
	b.ended(exitOK)
	requireSame(t, two)
	require.Contains(t, a.stdout.String(), "samples and events are on node two")
	require.Contains(t, a.stdout.String(), finish(t, two).ModelDigest)
	require.Contains(t, b.stdout.String(), filepath.Join(two, "checkpoints", "step-32"))
	require.NotContains(t, b.stdout.String(), "are on node")
}

// freePort is a port of loopback that nobody has, or so it was a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return port
}

// newestDigest is what agrdist checkpoint verify says of the newest checkpoint.
func newestDigest(t *testing.T, dir string) string {
	t.Helper()
	line, _, _ := strings.Cut(run(t, "checkpoint", "verify", dir).ended(exitOK).stdout.String(), "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

// The program's file is removed, or built again, while a run is under way: a worker that
// is started then is the same program as the others.
func TestProgramRemoved(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "agrdist")
	if os.Link(self, program) != nil { // another file system
		text, err := os.ReadFile(self)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(program, text, 0o700))
	}
	dir := filepath.Join(t.TempDir(), "run")
	p := spawn(t, exec.Command(program, training(dir, "--set", "train.steps=100000", "--set", "checkpoint.every=0")...), nil)
	members := pids(t, p.generation(dir, 1))
	p.step(dir, 2)
	require.NoError(t, os.Remove(program))
	require.NoError(t, syscall.Kill(members[0], syscall.SIGKILL))
	p.event(dir, "two workers again", func(e metrics.Event) bool {
		return e.Event == metrics.EventGeneration && e.Generation > 1 && e.WorldSize == 2
	})
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
}
