package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// namespaces are two network namespaces with a cable between them: to all that
// agrdist can see, two hosts.
type namespaces struct {
	names [2]string
	veths [2]string
	addrs [2]string
}

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need the ip command (iproute2)")
	}
	n := &namespaces{}
	tag := fmt.Sprintf("%s%d-", namespaceTag(), made.Add(1)) // an interface's name has 15 bytes
	for i := range 2 {
		n.names[i], n.veths[i] = fmt.Sprint(tag, i), fmt.Sprint(tag, i)
		n.addrs[i] = fmt.Sprintf("10.231.77.%d", i+1)
	}
	for _, name := range n.names {
		if err := ip("netns", "add", name); err != nil {
			t.Skipf("no network namespace can be made here: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, ip("netns", "delete", name)) }) // and with it its end of the cable
	}
	if err := ip("link", "add", n.veths[0], "netns", n.names[0], "type", "veth", "peer", "name", n.veths[1], "netns", n.names[1]); err != nil {
		t.Skipf("no veth pair can be made here: %v", err)
	}
	for i, name := range n.names {
		require.NoError(t, ip("-n", name, "address", "add", n.addrs[i]+"/24", "dev", n.veths[i]))
		require.NoError(t, ip("-n", name, "link", "set", "lo", "up"))
		n.cable(t, i, "up")
	}
	return n
}

var made atomic.Int64

// cable plugs an end of the cable in, "up", or pulls it, "down".
func (n *namespaces) cable(t *testing.T, i int, state string) {
	t.Helper()
	require.NoError(t, ip("-n", n.names[i], "link", "set", n.veths[i], state))
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// start starts agrdist in a namespace.
func (n *namespaces) start(t *testing.T, i int, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	// ip becomes the program (execve): signals and the exit code are its own.
	return spawn(t, exec.Command("ip", append([]string{"netns", "exec", n.names[i], self}, args...)...), env)
}

// Two nodes on two hosts, with a secret, as they would be in earnest.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	n := newNamespaces(t)
	root := t.TempDir()
	secret := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)}
	node := func(i int, more ...string) *process {
		args := training(filepath.Join(root, fmt.Sprint(i)), append([]string{
			"--nodes", "2", "--workers", "1", "--set", "cluster.bind=" + n.addrs[i],
		}, more...)...)
		return n.start(t, i, secret, args...)
	}
	a := node(0)
	addr := a.says(`--join (\S+)`)
	require.True(t, strings.HasPrefix(addr, n.addrs[0]+":"), addr)
	b := node(1, "--join", addr)
	a.ended(exitOK)
	b.ended(exitOK)
	dir := filepath.Join(root, "0")
	requireOnce(t, dir, requireSame(t, dir))
	requireQuiet(t, filepath.Join(root, "1"))
	require.Contains(t, b.stdout.String(), finish(t, dir).ModelDigest)
	for _, f := range []string{"0/config.yaml", "0/events.jsonl", "1/config.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, f))
		require.NoError(t, err)
		require.NotContains(t, string(text), "0123456789abcdef0", "the secret stays secret")
	}
	logs, err := filepath.Glob(filepath.Join(root, "*", "logs", "*.log"))
	require.NoError(t, err)
	require.Len(t, logs, 4)
	for _, f := range logs {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NotContains(t, string(text), "0123456789abcdef0", f)
	}
}

// The cable is pulled: the half with the lowest rank goes on, the other one
// waits and trains nothing; plugged in again they go on together. No process is
// restarted, and the model is that of one worker.
func TestPulledCable(t *testing.T) {
	t.Parallel()
	n := newNamespaces(t)
	root := t.TempDir()
	secret := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)}
	dir := filepath.Join(root, "0")
	node := func(i int, more ...string) *process {
		args := training(filepath.Join(root, fmt.Sprint(i)), append([]string{
			"--nodes", "1:2", "--workers", "1", "--set", "cluster.bind=" + n.addrs[i], "--set", "train.steps=100000",
		}, more...)...)
		return n.start(t, i, secret, args...)
	}
	a := node(0)
	b := node(1, "--join", a.says(`--join (\S+)`))
	world := func(size int, after uint64) metrics.Event {
		return a.event(dir, fmt.Sprintf("a world of %d", size), func(e metrics.Event) bool {
			return e.Event == metrics.EventGeneration && e.WorldSize == size && e.Generation > after
		})
	}
	whole := world(2, 0)
	a.step(dir, whole.Step+2)
	n.cable(t, 1, "down")
	half := world(1, whole.Generation)
	require.Equal(t, pids(t, whole)[0], pids(t, half)[0])
	a.step(dir, half.Step+3)
	n.cable(t, 1, "up")
	again := world(2, half.Generation)
	require.ElementsMatch(t, pids(t, whole), pids(t, again), "the same processes")
	a.step(dir, again.Step+2)
	a.signal(syscall.SIGINT) // SIGTERM would take out this node only
	a.ended(exitSignal)
	b.ended(exitSignal)

	list := events(t, dir)
	stop := list[len(list)-1]
	require.Equal(t, metrics.EventStop, stop.Event)
	alone := filepath.Join(root, "alone")
	run(t, training(alone, "--workers", "1", "--set", "train.steps="+itoa(stop.Step))...).ended(exitOK)
	require.Equal(t, finish(t, alone).ModelDigest, newestDigest(t, dir))
}
