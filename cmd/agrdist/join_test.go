package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
