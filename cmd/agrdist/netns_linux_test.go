package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// namespaces are two network namespaces with a cable between them: to all that
// agrdist can see, two hosts.
type namespaces struct {
	names [2]string
	addrs [2]string
}

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("network namespaces need the ip command (iproute2)")
	}
	n := &namespaces{}
	tag := os.Getpid() % 100000 // an interface's name has 15 bytes
	var veth [2]string
	for i := range 2 {
		n.names[i], veth[i] = fmt.Sprintf("agr%d-%d", tag, i), fmt.Sprintf("agr%d-%d", tag, i)
		n.addrs[i] = fmt.Sprintf("10.231.77.%d", i+1)
	}
	do := func(args ...string) error {
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	for _, name := range n.names {
		if err := do("netns", "add", name); err != nil {
			t.Skipf("no network namespace can be made here: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, do("netns", "delete", name)) }) // and with it its end of the cable
	}
	if err := do("link", "add", veth[0], "netns", n.names[0], "type", "veth", "peer", "name", veth[1], "netns", n.names[1]); err != nil {
		t.Skipf("no veth pair can be made here: %v", err)
	}
	for i, name := range n.names {
		require.NoError(t, do("-n", name, "address", "add", n.addrs[i]+"/24", "dev", veth[i]))
		require.NoError(t, do("-n", name, "link", "set", veth[i], "up"))
		require.NoError(t, do("-n", name, "link", "set", "lo", "up"))
	}
	return n
}

// start starts agrdist in a namespace.
func (n *namespaces) start(t *testing.T, i int, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	// ip becomes the program (execve): signals and the exit code are its own.
	return launch(t, exec.Command("ip", append([]string{"netns", "exec", n.names[i], self}, args...)...), env)
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
