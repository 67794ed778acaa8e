package leaktest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

// Each kind of thing that can be left is found, with its name, and nothing else is.
func TestFindsWhatIsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is Linux's")
	}
	found := func(text string) {
		t.Helper()
		require.Contains(t, strings.Join(begun.left(0), "\n"), text)
	}

	child := exec.Command("sleep", "1000")
	require.NoError(t, child.Start())
	found(": sleep 1000")
	require.NoError(t, child.Process.Kill())
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(begun.left(0), "\n"), "not waited for")
	}, 10*time.Second, time.Millisecond)
	require.Error(t, child.Wait())

	// An orphan: its parent is gone.
	out, err := exec.Command("sh", "-c", "sleep 1001 >/dev/null 2>&1 & echo $!").Output()
	require.NoError(t, err)
	found(": sleep 1001")
	require.NoError(t, exec.Command("kill", "-9", strings.TrimSpace(string(out))).Run())

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	found("socket:[")
	require.NoError(t, l.Close())

	temp := filepath.Join(os.TempDir(), "left")
	require.NoError(t, os.WriteFile(temp, nil, 0o600))
	found("temporary file " + temp)
	require.NoError(t, os.Remove(temp))

	f, err := os.CreateTemp("/dev/shm", "agrdist-leaktest-")
	require.NoError(t, err)
	found("shared memory " + f.Name())
	found(": " + f.Name())
	require.NoError(t, os.Remove(f.Name()))
	require.NoError(t, f.Close())

	stop := make(chan struct{})
	go func() { <-stop }()
	found("goroutine")
	close(stop)
	require.Empty(t, begun.left(10*time.Second))
}
