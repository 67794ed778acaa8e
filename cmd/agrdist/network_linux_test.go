package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// network is some network namespaces on one switch: to all that agrdist can see, as
// many hosts.
type network struct {
	hub   string
	names []string
	addrs []string
}

func newNetwork(t *testing.T, n int) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need the ip command (iproute2)")
	}
	tag := fmt.Sprintf("%s%d-", namespaceTag(), made.Add(1)) // an interface's name has 15 bytes
	w := &network{hub: tag + "h"}
	add := func(name string) {
		if err := ip("netns", "add", name); err != nil {
			t.Skipf("no network namespace can be made here: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, ip("netns", "delete", name)) })
	}
	add(w.hub)
	if err := ip("-n", w.hub, "link", "add", "br0", "type", "bridge"); err != nil {
		t.Skipf("no bridge can be made here: %v", err)
	}
	require.NoError(t, ip("-n", w.hub, "link", "set", "br0", "up"))
	for i := range n {
		name := fmt.Sprint(tag, i)
		add(name)
		w.names = append(w.names, name)
		w.addrs = append(w.addrs, fmt.Sprintf("10.231.78.%d", i+1))
		port := fmt.Sprint("p", i)
		require.NoError(t, ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", w.hub))
		require.NoError(t, ip("-n", w.hub, "link", "set", port, "master", "br0", "up"))
		require.NoError(t, ip("-n", name, "address", "add", w.addrs[i]+"/24", "dev", "eth0"))
		require.NoError(t, ip("-n", name, "link", "set", "lo", "up"))
		w.cable(t, i, "up")
	}
	return w
}

// cable plugs a host in, "up", or out, "down".
func (w *network) cable(t *testing.T, i int, state string) {
	t.Helper()
	require.NoError(t, ip("-n", w.names[i], "link", "set", "eth0", state))
}

func (w *network) heal(t *testing.T) {
	t.Helper()
	for i := range w.names {
		w.cable(t, i, "up")
	}
}

// start starts agrdist on a host.
func (w *network) start(t *testing.T, i int, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	// ip becomes the program (execve): signals and the exit code are its own.
	return spawn(t, exec.Command("ip", append([]string{"netns", "exec", w.names[i], self}, args...)...), env)
}
