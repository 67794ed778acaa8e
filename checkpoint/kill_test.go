package checkpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs"
	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

// The test binary is its own helper: with helperMode set it does one of the
// things below and exits.
const (
	helperMode   = "AGRDIST_CHECKPOINT_TEST_HELPER"
	helperDir    = "AGRDIST_CHECKPOINT_TEST_DIR"
	helperKillAt = "AGRDIST_CHECKPOINT_TEST_KILL_AT"
)

func helper(mode string) int {
	dir := os.Getenv(helperDir)
	var err error
	switch mode {
	case "save": // saves one step after the other until it is killed
		err = helperSave(dir)
	case "hold": // begins a save and stops in the middle of it
		h := &vfstest.Hooked{FS: vfs.OS{}, Hook: func(c vfstest.Call) error {
			if c.Op == "create" && filepath.Base(c.Path) == EMAFile {
				say("holding")
				_, err := io.Copy(io.Discard, os.Stdin)
				return err
			}
			return nil
		}}
		_, err = open(h, dir, testOptions(2)).Save(background(), state(100))
	case "lock": // holds the lock of a run
		var lock *RunLock
		if lock, err = LockRun(dir); err == nil {
			say("locked")
			_, err = io.Copy(io.Discard, os.Stdin)
			err = also(err, lock.Unlock())
		}
	}
	if err != nil {
		say(err.Error())
		return 1
	}
	return 0
}

func say(line string) { fmt.Fprintln(os.Stdout, line) }

func helperSave(dir string) error {
	killAt, err := strconv.ParseInt(os.Getenv(helperKillAt), 10, 64)
	if err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	h := &vfstest.Hooked{FS: vfs.OS{}, Hook: func(c vfstest.Call) error {
		if c.N == killAt {
			if err := self.Kill(); err != nil {
				return err
			}
			select {} // SIGKILL is on its way
		}
		return nil
	}}
	s := open(h, dir, testOptions(2))
	for {
		step := int64(0)
		if list, err := open(vfs.OS{}, dir, Options{}).candidates(); err != nil {
			return err
		} else if len(list) > 0 {
			step = list[0].step + 1
		}
		if _, err := s.Save(background(), state(step)); err != nil {
			return err
		}
		say("saved " + strconv.FormatInt(step, 10))
	}
}

type process struct {
	cmd   *exec.Cmd
	out   *bufio.Scanner
	stdin io.Closer
}

func start(t *testing.T, mode, dir string, killAt int64) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperMode+"="+mode, helperDir+"="+dir, fmt.Sprintf("%s=%d", helperKillAt, killAt))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &process{cmd, bufio.NewScanner(out), stdin}
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	require.True(t, p.out.Scan(), "the helper ended early: %v", p.out.Err())
	return p.out.Text()
}

// kill ends the helper, and returns the lines not yet read.
func (p *process) kill(t *testing.T) []string {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	return p.reap(t)
}

func (p *process) reap(t *testing.T) []string {
	t.Helper()
	var lines []string
	for p.out.Scan() {
		lines = append(lines, p.out.Text())
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, -1, exit.ExitCode(), "killed, not failed: %v", lines)
	return lines
}

func lastSaved(t *testing.T, lines []string, last int64) int64 {
	t.Helper()
	for _, l := range lines {
		n, err := strconv.ParseInt(strings.TrimPrefix(l, "saved "), 10, 64)
		require.NoError(t, err, l)
		last = n
	}
	return last
}

// requireSurvivor requires what must hold after any death of a writer that said
// it had saved step last: the newest checkpoint is that one or the next.
func requireSurvivor(t *testing.T, dir string, last int64, where string) int64 {
	t.Helper()
	snap, info, skipped, err := Open(dir, testOptions(2)).Newest(t.Context())
	if last < 0 && err != nil {
		require.ErrorIs(t, err, ErrNoCheckpoint, where)
		return last
	}
	require.NoError(t, err, where)
	require.Empty(t, skipped, where)
	require.Contains(t, []int64{last, last + 1}, info.Step, where)
	requireState(t, state(info.Step), snap)
	return info.Step
}

// A writer that kills itself with SIGKILL at a call of its choice, again and again in one
// directory. TestCrashAtEveryCall visits all calls, on a file system in memory; this is a
// sample of them, with real processes and a real disk.
func TestKilledAtAnyCall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	n := int64(len(calls(t, func(fsys vfs.FS) { mustSave(t, scene(t, fsys, 2), 3) })))
	const processes = 12
	stride := n / processes
	last := int64(-1)
	for at := rand.Int64N(stride); at < n; at += stride {
		p := start(t, "save", dir, at)
		last = lastSaved(t, p.reap(t), last)
		where := fmt.Sprintf("killed at call %d", at)
		last = requireSurvivor(t, dir, last, where)
		require.NoError(t, Open(dir, testOptions(2)).Tidy(t.Context()))
		requireNoLeftovers(t, dir, where)
		last = requireSurvivor(t, dir, last, where)
	}
}

func requireNoLeftovers(t *testing.T, dir, where string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range list {
		require.True(t, strings.HasPrefix(e.Name(), "step-"), "left over: %s, %s", e.Name(), where)
	}
}

// A writer that is killed from outside at any moment, while readers read: they
// see whole checkpoints only, and never an older one than they saw before.
func TestKilledFromOutsideWithReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	last := int64(-1)
	for round := range 3 {
		p := start(t, "save", dir, -1)
		last = lastSaved(t, []string{p.line(t)}, last)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		errs := make(chan error, 2)
		for range 2 {
			wg.Go(func() { errs <- readOn(ctx, dir) })
		}
		for range 4 + round {
			last = lastSaved(t, []string{p.line(t)}, last)
		}
		last = lastSaved(t, p.kill(t), last)
		last = requireSurvivor(t, dir, last, "killed from outside")
		cancel()
		wg.Wait()
		for range 2 {
			require.NoError(t, <-errs)
		}
	}
}

func readOn(ctx context.Context, dir string) error {
	s := Open(dir, testOptions(0))
	newest := int64(-1)
	for {
		snap, info, skipped, err := s.Newest(ctx)
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		case len(skipped) > 0:
			return fmt.Errorf("skipped %v", skipped)
		case info.Step < newest:
			return fmt.Errorf("step %d after step %d", info.Step, newest)
		case Digest(snap) != Digest(state(info.Step)):
			return fmt.Errorf("step %d has a digest of its own", info.Step)
		}
		newest = info.Step
	}
}

// The directory of a save in progress is left alone while its writer lives,
// and goes once it is dead.
func TestLeftoversOfTheLivingAndTheDead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".trash-step-7-1"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".tmp-step-8-1-1"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".tmp-of-somebody-else"), 0o700))
	p := start(t, "hold", dir, -1)
	require.Equal(t, "holding", p.line(t))
	tmp := fmt.Sprintf(".tmp-step-100-%d-1", p.cmd.Process.Pid)
	mustSave(t, Open(dir, testOptions(0)), 1)
	require.Equal(t, []string{".tmp-of-somebody-else", tmp, "step-1"}, names(t, vfs.OS{}, dir))
	p.kill(t)
	mustSave(t, Open(dir, testOptions(0)), 2)
	require.Equal(t, []string{".tmp-of-somebody-else", "step-1", "step-2"}, names(t, vfs.OS{}, dir))
}

func TestRunLock(t *testing.T) {
	run := filepath.Join(t.TempDir(), "runs", "a")
	p := start(t, "lock", run, -1)
	require.Equal(t, "locked", p.line(t))
	_, err := LockRun(run)
	require.ErrorIs(t, err, ErrRunLocked)
	oneLine(t, err)
	host, hostErr := os.Hostname()
	require.NoError(t, hostErr)
	require.ErrorContains(t, err, fmt.Sprintf(`%s is being written by "pid %d on %s since `, run, p.cmd.Process.Pid, host))
	p.kill(t)

	lock, err := LockRun(run)
	require.NoError(t, err, "the lock of a killed process is free")
	_, err = LockRun(run)
	require.ErrorIs(t, err, ErrRunLocked)
	require.ErrorContains(t, err, fmt.Sprintf("pid %d", os.Getpid()))
	require.NoError(t, lock.Unlock())
	require.NoError(t, lock.Unlock())
	lock, err = LockRun(run)
	require.NoError(t, err)
	require.NoError(t, lock.Unlock())

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = LockRun(filepath.Join(file, "run"))
	oneLine(t, err)
	require.ErrorContains(t, err, "move it away")
}
