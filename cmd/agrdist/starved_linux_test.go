package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/metrics"
)

// The agent has no file descriptor left when a worker dies: the other one goes on
// without it, that is said once, and as soon as there are some a replacement joins.
func TestNoReplacementForNow(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, "--set", "train.steps=100000")...)
	members := pids(t, p.generation(dir, 1))
	p.step(dir, 3)
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	require.NoError(t, err)
	var before unix.Rlimit
	require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before))
	starved := before
	starved.Cur = uint64(len(open)) - 2 // what is open stays open, and what a dead worker leaves is not enough
	require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &starved, nil))

	require.NoError(t, syscall.Kill(members[1], syscall.SIGKILL))
	alone := p.generation(dir, 2)
	require.Equal(t, members[:1], pids(t, alone))
	p.says(`cannot start worker 1 .*too many open files`)
	p.step(dir, alone.Step+10)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "cannot start worker 1"))

	require.NoError(t, unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil))
	again := p.event(dir, "a world of 2", func(e metrics.Event) bool {
		return e.Event == metrics.EventGeneration && e.WorldSize == 2 && e.Generation > 2
	})
	require.Equal(t, members[0], pids(t, again)[0])
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
}

// Somebody deleted the logs: the run and the replacement of a worker go on.
func TestDeletedLogs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir)...)
	members := pids(t, p.generation(dir, 1))
	p.step(dir, 2)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "logs")))
	require.NoError(t, syscall.Kill(members[1], syscall.SIGKILL))
	p.ended(exitOK)
	requireSame(t, dir)
}
