package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Without loopback no worker reaches another: said at once, not after the time that
// workers have to meet.
func TestLoopbackDown(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %s", out)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "run")
	began := time.Now()
	p := spawn(t, exec.Command("unshare", append([]string{"-n", self}, training(dir)...)...), nil)
	refused(t, p, exitFailed, "loopback", "ip link set lo up")
	require.Less(t, time.Since(began), time.Minute, "cluster.start_timeout is two")
	p = spawn(t, exec.Command("unshare", "-n", self, "doctor"), nil).ended(exitFailed)
	require.Regexp(t, `(?m)^fail +loopback`, p.stdout.String())
}

// Too few open files are named before anything fails for want of one.
func TestOpenFilesLimit(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	args := append([]string{"-c", `ulimit -n 12; exec "$@"`, "sh", self}, training(filepath.Join(t.TempDir(), "run"))...)
	refused(t, spawn(t, exec.Command("sh", args...), nil), exitFailed, "open files: 12 allowed (ulimit -n)", "ulimit -n 4096")
}
