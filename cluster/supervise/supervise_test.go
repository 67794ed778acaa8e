//go:build unix

package supervise_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster/supervise"
)

func TestExitCodes(t *testing.T) {
	s, _ := start(t, nil, "exit 0", "exit 42")
	got := map[int]supervise.Exit{}
	for range 2 {
		e := next(t, s)
		got[e.Slot] = e
	}
	require.Equal(t, 0, got[0].Code)
	require.False(t, got[0].Failed())
	require.Equal(t, 42, got[1].Code)
	require.True(t, got[1].Failed())
	require.Empty(t, got[1].Signal)
	require.Equal(t, []string{"leaving with 42"}, got[1].LastWords)
	require.Regexp(t, `^rank-1 exited with code 42 after \S+; its last words: leaving with 42$`, got[1].String())
	require.Empty(t, s.Running())
}

func TestKilledFromOutside(t *testing.T) {
	s, out := start(t, nil, "polite")
	pid := out.pid(t, "ready")
	require.Equal(t, pid, s.Running()[0].PID)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	e := next(t, s)
	require.Equal(t, "SIGKILL", e.Signal)
	require.Equal(t, -1, e.Code)
	require.True(t, e.Failed())
	require.Contains(t, e.Reason(), "was ended by SIGKILL")
	require.Contains(t, e.Reason(), "not by agrdist")
	require.NotEqual(t, supervise.OOMLikely, e.OOM)
}

func TestPanicIsInTheLastWords(t *testing.T) {
	s, _ := start(t, func(c *supervise.Config) { c.LastWords = 2 }, "panic")
	e := next(t, s)
	require.Equal(t, 2, e.Code)
	require.Equal(t, "panic: tensor shapes differ", e.LastWords[0], "%q", e.LastWords)
	require.Len(t, e.LastWords, 4) // the panic, an ellipsis, the last two
}

func TestStopIsSIGTERM(t *testing.T) {
	s, out := start(t, nil, "polite")
	out.await(t, "ready")
	require.NoError(t, s.Stop(0))
	e := next(t, s)
	require.Equal(t, 0, e.Code)
	require.Equal(t, supervise.AskedStop, e.Asked)
	require.False(t, e.GraceOver)
	require.Contains(t, e.Reason(), "as asked")
	require.Contains(t, out.String(), "[rank-0] bye\n")
}

func TestStopBecomesSIGKILL(t *testing.T) {
	s, out := start(t, func(c *supervise.Config) { c.KillGrace = 50 * time.Millisecond }, "stubborn")
	out.await(t, "ready")
	require.NoError(t, s.Stop(0))
	require.NoError(t, s.Stop(0)) // again: no second timer
	e := next(t, s)
	require.Equal(t, "SIGKILL", e.Signal)
	require.Equal(t, supervise.AskedStop, e.Asked)
	require.True(t, e.GraceOver)
	require.False(t, e.Failed())
	require.Contains(t, e.Reason(), "did not stop on SIGTERM in time")
}

func TestSignalReachesTheWorkerOnly(t *testing.T) {
	s, out := start(t, nil, "polite", "polite")
	out.await(t, "[rank-0] ready")
	out.await(t, "[rank-1] ready")
	require.NoError(t, s.Signal(1, syscall.SIGUSR1))
	out.await(t, "[rank-1] pong")
	require.NotContains(t, out.String(), "[rank-0] pong")
}

func TestKillTakesTheGrandchildrenAlong(t *testing.T) {
	s, out := start(t, nil, "parent")
	grandchild := out.pid(t, "child")
	out.await(t, "ready") // the grandchild runs and ignores SIGTERM
	require.NoError(t, s.Kill(0))
	e := next(t, s)
	require.Equal(t, supervise.AskedKill, e.Asked)
	require.False(t, e.Failed())
	requireGone(t, grandchild)
}

func TestOrphansGoWithTheirParent(t *testing.T) {
	s, out := start(t, nil, "orphaner")
	grandchild := out.pid(t, "child")
	require.Equal(t, 0, next(t, s).Code)
	requireGone(t, grandchild)
}

func TestEscapedOutputHolderDoesNotBlock(t *testing.T) {
	s, out := start(t, nil, "daemoniser")
	daemon := out.pid(t, "child")
	t.Cleanup(func() { _ = syscall.Kill(daemon, syscall.SIGKILL) })
	require.Equal(t, 0, next(t, s).Code)
	require.True(t, alive(daemon), "what left the group is not ours to end")
}

func TestNoWorkerSurvivesTheSupervisor(t *testing.T) {
	for name, mode := range map[string]string{"death signal": "stubborn", "stdin": "watcher"} {
		t.Run(name, func(t *testing.T) {
			if mode == "stubborn" && !hasDeathSignal {
				t.Skip("no parent-death signal on this system")
			}
			var out recorder
			sup := exec.Command(os.Args[0], mode, mode)
			sup.Env = append(os.Environ(), helperEnv+"=supervisor")
			sup.Stdout = &out
			require.NoError(t, sup.Start())
			t.Cleanup(func() { _ = sup.Process.Kill() })
			out.await(t, "[rank-0] ready ")
			out.await(t, "[rank-1] ready ")
			workers := []int{out.pid(t, "[rank-0] ready"), out.pid(t, "[rank-1] ready")}
			for _, pid := range workers {
				require.True(t, alive(pid))
			}
			require.NoError(t, sup.Process.Kill())
			require.Error(t, sup.Wait())
			for _, pid := range workers {
				requireGone(t, pid)
			}
		})
	}
}

func TestHugeOutputDoesNotBlock(t *testing.T) {
	const size = 8 << 20
	dir := t.TempDir()
	s, out := start(t, func(c *supervise.Config) { c.LogDir, c.MaxLine = dir, 100 }, "flood 8388608")
	e := next(t, s)
	require.Equal(t, 0, e.Code)
	require.Equal(t, "end of flood", e.LastWords[1])
	want := strings.Repeat("0123456789", 10) + " [8388500 bytes cut]"
	require.Equal(t, want, e.LastWords[0])
	require.Less(t, len(out.String()), size/1000)
	log, err := os.ReadFile(filepath.Join(dir, "rank-0.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "\n"+want+"\nend of flood\n")
}

func TestStdoutAndStderrKeepTheirOrder(t *testing.T) {
	s, out := start(t, nil, "streams")
	require.Equal(t, 0, next(t, s).Code)
	var want strings.Builder
	for i := range 100 {
		want.WriteString("[rank-0] line " + itoa(i) + "\n")
	}
	require.Equal(t, want.String(), out.String())
}

func TestLogsOfAllIncarnations(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs") // is made
	s, _ := start(t, func(c *supervise.Config) { c.LogDir = dir }, "exit 1")
	require.Equal(t, 1, next(t, s).Incarnation)
	require.NoError(t, s.Start(0))
	require.Equal(t, 2, next(t, s).Incarnation)
	log, err := os.ReadFile(filepath.Join(dir, "rank-0.log"))
	require.NoError(t, err)
	require.Regexp(t, `^=== rank-0 incarnation 1, process \d+, started \S+Z ===
leaving with 1
=== rank-0 incarnation 2, process \d+, started \S+Z ===
leaving with 1
$`, string(log))
}

func TestLogRotation(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, func(c *supervise.Config) { c.LogDir, c.MaxLogBytes = dir, 1000 }, "lines 500")
	require.Equal(t, 0, next(t, s).Code)
	log, err := os.ReadFile(filepath.Join(dir, "rank-0.log"))
	require.NoError(t, err)
	old, err := os.ReadFile(filepath.Join(dir, "rank-0.log.1"))
	require.NoError(t, err)
	require.NotEmpty(t, old)
	require.True(t, strings.HasSuffix(string(log), "line 499\n"))
	require.True(t, strings.HasSuffix(string(old), "\n"), "no line is torn")
}

func TestMisuse(t *testing.T) {
	s, out := start(t, nil, "polite", "exit 0")
	out.await(t, "ready")
	require.ErrorIs(t, s.Start(0), supervise.ErrRunning)
	require.ErrorIs(t, s.Stop(7), supervise.ErrNotRunning)
	require.ErrorIs(t, s.Kill(7), supervise.ErrNotRunning)
	require.ErrorIs(t, s.Signal(7, syscall.SIGUSR1), supervise.ErrNotRunning)

	_, err := supervise.New(supervise.Config{})
	require.ErrorIs(t, err, supervise.ErrConfig)
	for name, cmd := range map[string]supervise.Command{
		"no such program": {Name: "a", Path: "/nowhere/agrdist"},
		"no program":      {Name: "a"},
		"no directory":    {Name: "a", Path: os.Args[0], Dir: "/nowhere"},
		"a path as name":  {Name: "../a", Path: os.Args[0]},
	} {
		bad, err := supervise.New(supervise.Config{Command: func(int) (supervise.Command, error) { return cmd, nil }})
		require.NoError(t, err)
		require.Error(t, bad.Start(0), name)
		require.Empty(t, bad.Running(), name)
		require.NoError(t, bad.Close(t.Context()))
	}
	broken := errors.New("no device")
	bad, err := supervise.New(supervise.Config{Command: func(int) (supervise.Command, error) { return supervise.Command{}, broken }})
	require.NoError(t, err)
	require.ErrorIs(t, bad.Start(3), broken)
	require.NoError(t, bad.Close(t.Context()))

	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, s.Start(1), supervise.ErrClosed)
}

func TestCloseKeepsTheExitsReadable(t *testing.T) {
	s, out := start(t, func(c *supervise.Config) { c.KillGrace = time.Hour }, "polite", "stubborn", "exit 3")
	out.await(t, "[rank-0] ready")
	out.await(t, "[rank-1] ready")
	require.Eventually(t, func() bool { return len(s.Running()) == 2 }, patience, tick)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	closed := make(chan error)
	go func() { closed <- s.Close(ctx) }()
	out.await(t, "[rank-0] bye")
	require.Eventually(t, func() bool { return len(s.Running()) == 1 }, patience, tick)
	cancel() // the grace is over for the other one
	require.NoError(t, <-closed)
	require.NoError(t, s.Close(context.Background()))
	byName := map[string]supervise.Exit{}
	for e := range s.Exits() {
		byName[e.Name] = e
	}
	require.Len(t, byName, 3)
	require.Equal(t, 0, byName["rank-0"].Code)
	require.True(t, byName["rank-1"].GraceOver)
	require.Equal(t, 3, byName["rank-2"].Code)
}

func TestCloseIsCutShortByItsContext(t *testing.T) {
	s, out := start(t, func(c *supervise.Config) { c.KillGrace = time.Hour }, "stubborn")
	pid := out.pid(t, "ready")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Close(ctx)) // the hour is not waited for
	require.False(t, alive(pid))
	require.Equal(t, "SIGKILL", next(t, s).Signal)
}

func TestManyStartsLeakNothing(t *testing.T) {
	s, out := start(t, nil, "polite")
	out.await(t, "ready")
	before := countFDs(t)
	for i := range 50 {
		require.NoError(t, s.Kill(0))
		require.Equal(t, i+1, next(t, s).Incarnation)
		require.NoError(t, s.Start(0))
	}
	require.Equal(t, before, countFDs(t)) // the goroutines are goleak's business
}

func TestRecords(t *testing.T) {
	var mu sync.Mutex
	var got []string
	s, _ := start(t, func(c *supervise.Config) {
		c.Record = func(slot int, line []byte) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%d %s", slot, line))
		}
	}, "records", "exit 0")
	for range 2 {
		e := next(t, s)
		require.Zero(t, e.Code)
		if e.Slot == 1 {
			require.Nil(t, e.Record)
			continue
		}
		require.Equal(t, "two", string(e.Record))
		mu.Lock()
		require.Equal(t, []string{"0 one", "0 two"}, got, "too long a line and one without an end are dropped")
		mu.Unlock()
		require.Equal(t, []string{"done"}, e.LastWords, "records are no output")
	}
}

func TestRecordsAreForTheWorkerAlone(t *testing.T) {
	s, out := start(t, given([]byte("secret")), "grandparent")
	require.Zero(t, next(t, s).Code)
	require.Contains(t, out.String(), "records: false, input: false")
	require.Nil(t, supervise.Records(), "this process is supervised by nobody")
}

// given gives every worker an input.
func given(input []byte) func(c *supervise.Config) {
	return func(c *supervise.Config) {
		command := c.Command
		c.Command = func(slot int) (supervise.Command, error) {
			cmd, err := command(slot)
			cmd.Input = input
			return cmd, err
		}
	}
}

// An input comes whole, also one that is longer than a pipe; a worker that never reads
// it holds nothing up.
func TestInput(t *testing.T) {
	s, out := start(t, given(bytes.Repeat([]byte("input"), 100_000)), "input")
	require.Zero(t, next(t, s).Code)
	require.Contains(t, out.String(), "input: 500000 bytes input <nil>\n")

	s, _ = start(t, given(bytes.Repeat([]byte("input"), 100_000)), "exit 7")
	require.Equal(t, 7, next(t, s).Code)

	s, out = start(t, nil, "input")
	require.Equal(t, 1, next(t, s).Code)
	require.Contains(t, out.String(), "no input from a supervisor")
}

func TestShownName(t *testing.T) {
	s, out := start(t, func(c *supervise.Config) {
		command := c.Command
		c.Command = func(slot int) (supervise.Command, error) {
			cmd, err := command(slot)
			cmd.Argv0 = "agrdist"
			return cmd, err
		}
	}, "argv")
	next(t, s)
	require.Contains(t, out.String(), "argv agrdist\n")
}

func TestWatchParent(t *testing.T) {
	for value, want := range map[string]bool{"": false, "4711": true} {
		synctest.Test(t, func(t *testing.T) {
			t.Setenv("SUPERVISED_BY_AGRDIST", value)
			require.Equal(t, want, supervise.Supervised())
			stdin, parent := io.Pipe()
			called := false
			supervise.WatchParent(stdin, func() { called = true })
			synctest.Wait()
			require.False(t, called, "the parent lives")
			require.NoError(t, parent.Close())
			synctest.Wait()
			require.Equal(t, want, called)
		})
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return len(entries)
}
