package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// volume mounts a small file system, if this process may.
func volume(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs takes root")
	}
	dir := t.TempDir()
	err := syscall.Mount("agrdist-test", dir, "tmpfs", 0, "size=4m")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENODEV) {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill leaves no room on a volume and returns the file that takes it.
func fill(t *testing.T, vol string) string {
	t.Helper()
	path := filepath.Join(vol, "filler")
	f, err := os.Create(path)
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return path
}

// A full disk at a stop or at the end: the run waits for room, and says so. Without room
// it does not claim that it saved.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps, wait string
		stop        bool
		code        int
	}{
		"stop, room at last":    {"100000", "10m", true, exitSignal},
		"stop, no room":         {"100000", "0s", true, exitFailed},
		"the end, room at last": {"32", "10m", false, exitOK},
		"the end, no room":      {"32", "1s", false, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vol := volume(t)
			dir := filepath.Join(vol, "run")
			p := start(t, training(dir, "--set", "train.steps="+c.steps, "--set", "checkpoint.every=0", "--set", "checkpoint.full_disk_wait="+c.wait)...)
			p.step(dir, 1)
			filler := fill(t, vol)
			if c.stop {
				p.signal(syscall.SIGTERM)
			}
			if c.wait != "0s" {
				p.says("the disk is full: waiting for room")
			}
			if c.code == exitFailed {
				p.ended(exitFailed)
				require.Regexp(t, "NOTHING WAS SAVED|was not saved", p.stderr.String())
				require.Contains(t, p.stderr.String(), "no space left on device; free ")
				require.NotContains(t, p.stderr.String(), "; saved in")
				return
			}
			require.NoError(t, os.Remove(filler))
			p.ended(c.code)
			run(t, "checkpoint", "verify", dir).ended(exitOK)
		})
	}
}
