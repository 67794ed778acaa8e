package supervise_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/cluster/supervise"
)

const hasDeathSignal = true

// clearDeathSignal leaves stdin as the only way to notice the parent's death.
func clearDeathSignal() { _ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) }

// alive reports whether the process exists and is no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the state follows the name
	return rest != "" && !strings.ContainsAny(rest[:1], "ZX")
}

// A parent-death signal fires when the forking THREAD ends. Here the thread that
// calls Start is destroyed (a locked goroutine that returns takes it along), and
// with it every idle thread of the process; the worker must not notice.
func TestWorkerOutlivesTheThreadsOfItsSupervisor(t *testing.T) {
	out := &recorder{}
	s, err := supervise.New(supervise.Config{Command: commands("polite"), Output: out})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(t.Context())) }()

	const threads = 32 // more than idle ones there are
	started := make(chan error, 1)
	threadFree := make(chan struct{})
	tids := make(chan int, threads)
	end := make(chan struct{})
	for i := range threads {
		go func() {
			if i > 0 {
				<-threadFree // the others take the threads that Start used
			}
			runtime.LockOSThread()
			tids <- unix.Gettid()
			if i == 0 {
				started <- s.Start(0)
				close(threadFree)
			}
			<-end
		}()
	}
	require.NoError(t, <-started)
	out.await(t, "ready")
	var dying []string
	for range threads {
		if tid := <-tids; tid != os.Getpid() { // Go never ends the main thread
			dying = append(dying, fmt.Sprintf("/proc/self/task/%d", tid))
		}
	}
	close(end)
	for _, thread := range dying {
		require.Eventually(t, func() bool {
			_, err := os.Stat(thread)
			return os.IsNotExist(err)
		}, patience, tick)
	}
	require.NoError(t, s.Signal(0, syscall.SIGUSR1))
	out.await(t, "pong")
}

// As process 1 of a container does, the helper inherits the orphans of its
// workers and must not keep them as zombies.
func TestOrphansAreReapedByASubreaper(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestSubreaperHelper$")
	cmd.Env = append(os.Environ(), "SUPERVISE_TEST_SUBREAPER=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestSubreaperHelper(t *testing.T) {
	if os.Getenv("SUPERVISE_TEST_SUBREAPER") == "" {
		t.Skip("run by TestOrphansAreReapedByASubreaper")
	}
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	s, out := start(t, nil, "orphaner")
	require.Equal(t, 0, next(t, s).Code)
	orphan := out.pid(t, "child")
	_, err := os.Stat(fmt.Sprintf("/proc/%d", orphan))
	require.ErrorIs(t, err, os.ErrNotExist, "left a zombie")
}
