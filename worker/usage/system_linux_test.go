package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/cluster"
)

// The other tests read made-up files. These read the system's own, of processes that it
// really holds back.

// job is what a process of this test does: "spin" computes for ever, "watch" computes,
// and ends with its usage when the numbers are there.
const job = "AGRDIST_TEST_JOB"

func TestMain(m *testing.M) {
	switch os.Getenv(job) {
	case "spin":
		spin(new(atomic.Bool))
	case "throttled":
		watch(func(now, last counters) bool { return now.periods-last.periods >= 10 })
	case "waiting":
		watch(func(now, last counters) bool { // the others may begin later
			u := now.since(last)
			return now.at.Sub(last.at) >= time.Second && u.Runnable > 0.2 && u.Preempted > 0
		})
	default:
		verify(m)
	}
}

// spin computes until stop says so. It lets the program's other goroutines run: on one CPU
// nothing else would, as the race detector's code is hardly ever in a place where Go can
// interrupt it.
func spin(stop *atomic.Bool) {
	runtime.LockOSThread()
	for n := 1; !stop.Load(); n++ {
		if n%(1<<16) == 0 {
			runtime.Gosched()
		}
	}
}

// watch prints the usage of a process that computes all the time, over a while that
// enough decides on.
func watch(enough func(now, last counters) bool) {
	var stop atomic.Bool
	go spin(&stop)
	root := os.DirFS("/")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for last := read(root); ; <-tick.C {
		now := read(root)
		if !enough(now, last) {
			continue
		}
		if err := json.NewEncoder(os.Stdout).Encode(now.since(last)); err != nil {
			panic(err)
		}
		stop.Store(true)
		return
	}
}

// started is a process of this test, of which prepare may hold back what it is.
func started(t *testing.T, what string, prepare func(pid int) error) (c *exec.Cmd, out io.Reader) {
	t.Helper()
	// The shell waits for a line, so that the process begins where it was put.
	c = exec.Command("/bin/sh", "-c", `read line && exec "$0"`, os.Args[0])
	c.Env = append(os.Environ(), job+"="+what)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // killed
	})
	if err := prepare(c.Process.Pid); err != nil {
		t.Skipf("this machine does not let the test hold a process back: %v", err)
	}
	_, err = fmt.Fprintln(in, "go")
	require.NoError(t, err)
	require.NoError(t, in.Close())
	return c, out
}

// usageOf reads what a process prints. It does not wait for its end: while other
// processes have its CPU to themselves, Linux 6.18 was seen to need minutes for that.
func usageOf(t *testing.T, out io.Reader) (u cluster.Usage) {
	t.Helper()
	printed := make(chan error, 1)
	go func() { printed <- json.NewDecoder(out).Decode(&u) }()
	select {
	case err := <-printed:
		require.NoError(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the process does not find its numbers")
	}
	return u
}

// group makes a cgroup, below this process's own, that has a hundredth of a CPU, the least there is: less than it gets on a machine that others load.
func group(t *testing.T) (dir string) {
	t.Helper()
	own, version := ownGroup(t)
	dir = filepath.Join(own, "agrdist-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Rmdir(dir)) })
	limits := map[string]string{"cpu.max": "1000 100000"}
	if version == 1 {
		limits = map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "1000"}
	}
	for name, limit := range limits {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(limit), 0o600); err != nil {
			t.Skipf("cgroup version %d: no CPU limit can be set: %v", version, err)
		}
	}
	return dir
}

// ownGroup is the directory of this process's cgroup for the CPU.
func ownGroup(t *testing.T) (dir string, version int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skipf("no cgroups: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && parts[0] != "0" && strings.Contains(","+parts[1]+",", ",cpu,") {
			return filepath.Join("/sys/fs/cgroup/cpu", parts[2]), 1
		}
		if len(parts) == 3 && parts[0] == "0" {
			dir, version = filepath.Join("/sys/fs/cgroup", parts[2]), 2
		}
	}
	if version == 0 {
		t.Skip("this process is in no cgroup")
	}
	return dir, version
}

// A process whose cgroup has a hundredth of a CPU says so.
func TestThrottledByARealCgroup(t *testing.T) {
	dir := group(t)
	_, out := started(t, "throttled", func(pid int) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
	})
	u := usageOf(t, out)
	require.Greater(t, u.Throttled, 0.5, "%+v", u)
}

// A process that shares its CPU with others says that its threads waited for it.
func TestWaitingBehindOtherPrograms(t *testing.T) {
	if _, err := os.ReadFile("/proc/self/schedstat"); errors.Is(err, os.ErrNotExist) {
		t.Skip("the kernel counts no time on the run queue")
	}
	var all unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	var one unix.CPUSet
	for cpu := 0; ; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	pin := func(pid int) error { return unix.SchedSetaffinity(pid, &one) }
	_, out := started(t, "waiting", pin)
	for range 2 { // which end before the first is waited for
		started(t, "spin", pin)
	}
	u := usageOf(t, out)
	require.Greater(t, u.Runnable, 0.2, "%+v", u)
	require.Positive(t, u.Preempted)
}
