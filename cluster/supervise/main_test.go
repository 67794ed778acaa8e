//go:build unix

package supervise_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/internal/leaktest"
)

// The tests run this very binary as the worker; the variable says which one.
const helperEnv = "SUPERVISE_TEST_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		os.Exit(helper(mode, os.Args[1:]))
	}
	leaktest.Main(m)
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) }

// helper is the worker process.
func helper(mode string, args []string) int {
	sigs := make(chan os.Signal, 8)
	switch mode {
	case "exit": // CODE
		code, _ := strconv.Atoi(args[0])
		say("leaving with %d", code)
		return code
	case "panic":
		panic("tensor shapes differ")
	case "polite": // ends on SIGTERM, answers SIGUSR1
		signal.Notify(sigs, syscall.SIGTERM, syscall.SIGUSR1)
		say("ready %d", os.Getpid())
		for sig := range sigs {
			if sig == syscall.SIGTERM {
				say("bye")
				return 0
			}
			say("pong")
		}
	case "stubborn": // ignores SIGTERM, and that nobody reads what it says
		signal.Ignore(syscall.SIGTERM, syscall.SIGPIPE)
		signal.Notify(sigs, syscall.SIGUSR1)
		say("ready %d", os.Getpid())
		<-sigs
	case "parent": // has a child of its own, in its group, and stays
		_ = child("stubborn", nil)
		signal.Notify(sigs, syscall.SIGTERM)
		<-sigs
	case "orphaner": // has a child of its own and goes
		_ = child("stubborn", nil)
	case "daemoniser": // its child leaves the group and keeps the output open
		_ = child("stubborn", &syscall.SysProcAttr{Setsid: true})
	case "flood": // BYTES, mostly in one line
		n, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for range n / 10 {
			_, _ = w.WriteString("0123456789")
		}
		_, _ = w.WriteString("\nend of flood\n")
		_ = w.Flush()
	case "lines": // COUNT
		n, _ := strconv.Atoi(args[0])
		for i := range n {
			say("line %d", i)
		}
	case "streams": // alternates between the two
		for i := range 100 {
			_, _ = fmt.Fprintf([]*os.File{os.Stdout, os.Stderr}[i%2], "line %d\n", i)
		}
	case "records": // writes records, the last without an end
		w := supervise.Records()
		_, _ = fmt.Fprintf(w, "one\n%s\ntwo\nthr", strings.Repeat("x", 1<<20))
		say("done")
	case "input": // says what it was given
		in, err := supervise.Input()
		if err != nil {
			say("input: %v", err)
			return 1
		}
		text, err := io.ReadAll(in)
		say("input: %d bytes %.5s %v", len(text), text, err)
	case "grandparent": // of a process that the supervisor did not start itself
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), helperEnv+"=grandchild")
		cmd.Stdout = os.Stdout
		_ = cmd.Run()
	case "grandchild":
		_, err := supervise.Input()
		say("records: %t, input: %t", supervise.Records() != nil, err == nil)
	case "argv":
		say("argv %s", os.Args[0])
	case "watcher": // ends when the supervisor does, by stdin alone
		clearDeathSignal()
		gone := make(chan struct{})
		supervise.WatchParent(os.Stdin, func() { close(gone) })
		say("ready %d", os.Getpid())
		<-gone
	case "supervisor": // MODE...: supervises workers and waits to be killed
		s, err := supervise.New(supervise.Config{Command: commands(args...), Output: os.Stdout})
		if err != nil {
			return 3
		}
		for slot := range args {
			if err := s.Start(slot); err != nil {
				say("start: %v", err)
				return 3
			}
		}
		<-s.Exits()
	}
	return 0
}

// child starts a helper that shares this process's output.
func child(mode string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+mode)
	cmd.Stdout, cmd.SysProcAttr = os.Stdout, attr
	if err := cmd.Start(); err != nil {
		return err
	}
	say("child %d", cmd.Process.Pid)
	return nil
}

// commands gives slot i the i-th mode, "MODE ARG...".
func commands(modes ...string) func(int) (supervise.Command, error) {
	return func(slot int) (supervise.Command, error) {
		words := strings.Fields(modes[slot])
		return supervise.Command{
			Name: fmt.Sprintf("rank-%d", slot), Path: os.Args[0], Args: words[1:],
			// Under the race detector a process lingers a second at its end.
			Env: append(os.Environ(), helperEnv+"="+words[0], "GORACE=atexit_sleep_ms=0"),
		}, nil
	}
}

// recorder collects output.
type recorder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) await(t *testing.T, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(r.String(), want) }, patience, tick,
		"output never had %q", want)
}

// pid returns the number after the word, once it stands there.
func (r *recorder) pid(t *testing.T, word string) int {
	t.Helper()
	r.await(t, word+" ")
	var pid int
	require.Eventually(t, func() bool {
		_, rest, _ := strings.Cut(r.String(), word+" ")
		line, _, whole := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(strings.TrimSpace(line))
		pid = n
		return whole && err == nil
	}, patience, tick)
	return pid
}

const (
	patience = 20 * time.Second
	tick     = 2 * time.Millisecond
)

// start returns a supervisor of the given modes, each started.
func start(t *testing.T, change func(*supervise.Config), modes ...string) (*supervise.Supervisor, *recorder) {
	t.Helper()
	out := &recorder{}
	cfg := supervise.Config{Command: commands(modes...), Output: out}
	if change != nil {
		change(&cfg)
	}
	s, err := supervise.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // whatever still runs is killed at once
		require.NoError(t, s.Close(ctx))
	})
	for slot := range modes {
		require.NoError(t, s.Start(slot))
	}
	return s, out
}

// next returns the next exit.
func next(t *testing.T, s *supervise.Supervisor) supervise.Exit {
	t.Helper()
	select {
	case e, ok := <-s.Exits():
		require.True(t, ok, "exits closed")
		return e
	case <-time.After(patience):
		require.Fail(t, "no exit")
		return supervise.Exit{}
	}
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !alive(pid) }, patience, 5*time.Millisecond, "process %d lives on", pid)
}

func itoa(i int) string { return strconv.Itoa(i) }
