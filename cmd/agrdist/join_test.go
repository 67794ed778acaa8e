package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The line that the first node prints is pasted into a shell, IPv6 or not, and the
// same address given by the environment joins as well.
func TestJoinAsPrinted(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	for bind, byShell := range map[string]bool{"127.0.0.1": true, "[::1]": true, "::1": false} {
		t.Run(bind, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(bind, ":") {
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Skip("this machine has no IPv6 loopback")
				}
				require.NoError(t, l.Close())
			}
			root := t.TempDir()
			a := start(t, training(filepath.Join(root, "a"), "--workers", "1", "--nodes", "2", "--set", "cluster.bind="+bind)...)
			line := a.says(`other nodes join with (.*)\n`)
			var b *process
			if byShell {
				b = spawn(t, exec.Command("sh", "-c", self+" run --workers 1 --set cluster.bind='"+bind+"' --out "+filepath.Join(root, "b")+" "+line), nil)
			} else {
				address := strings.Trim(line[strings.LastIndex(line, " ")+1:], "'")
				b = startEnv(t, []string{"AGRDIST_CLUSTER_JOIN=" + address, "AGRDIST_CLUSTER_BIND=" + bind}, "run", "--workers", "1", "--nodes", "2", "--out", filepath.Join(root, "b"))
			}
			b.ended(exitOK)
			a.ended(exitOK)
			require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, filepath.Join(root, "a")).ModelDigest)
		})
	}
}

// All addresses of an IPv6 machine, as people write them.
func TestBindToAllAddresses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	require.NoError(t, l.Close())
	secret := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)}
	for _, bind := range []string{"::", "[::]"} {
		dir := filepath.Join(t.TempDir(), "run")
		startEnv(t, secret, training(dir, "--workers", "1", "--nodes", "1:2", "--set", "cluster.form_wait=1ms", "--set", "cluster.bind="+bind)...).ended(exitOK)
		require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, dir).ModelDigest)
	}
}

// A node that cannot take part for its name, its run's id or its secret says so within
// seconds, and keeps trying: the other one may be on its way out.
func TestJoinerSaysWhatKeepsItOut(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	secret := func(s string) []string { return []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat(s, 2)} }
	node := func(dir, s string, more ...string) *process {
		return startEnv(t, secret(s), training(filepath.Join(root, dir), append([]string{
			"--nodes", "1:4", "--workers", "1", "--set", "train.steps=100000",
		}, more...)...)...)
	}
	const right, wrong = "0123456789abcdef", "fedcba9876543210"
	first := node("first", right, "--set", "cluster.node=one")
	join := []string{"--join", first.says(`--join (\S+)`)}
	for name, c := range map[string]struct {
		secret, set, says string
	}{
		"name":   {right, "cluster.node=one", `waiting for a place in the run: .* another node is named "one"`},
		"run id": {right, "cluster.run_id=other", `belongs to another run: .*cluster\.run_id`},
		"secret": {wrong, "cluster.node=two", `another secret`},
	} {
		p := node(name, c.secret, append(join, "--set", c.set)...)
		p.says("(" + c.says + ")")
		p.signal(syscall.SIGINT)
		p.wait()
	}
	first.signal(syscall.SIGINT)
	first.wait()
}
