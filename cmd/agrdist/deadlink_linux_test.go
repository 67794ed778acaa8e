package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// link lets two hosts reach one another, or not: what one sends to the other goes to a
// network card that does not exist.
func (w *network) link(t *testing.T, a, b int, works bool) {
	t.Helper()
	for _, end := range [2][2]int{{a, b}, {b, a}} {
		args := []string{"-n", w.names[end[0]], "neigh", "replace", w.addrs[end[1]], "lladdr", "02:00:00:00:00:77", "dev", "eth0", "nud", "permanent"}
		if works {
			args = []string{"-n", w.names[end[0]], "neigh", "delete", w.addrs[end[1]], "dev", "eth0"}
		}
		require.NoError(t, ip(args...))
	}
}

// Two nodes reach the coordinator but not one another. The run continues without one of
// them, says which link is dead, and takes it back when the link works. No process is
// restarted, and the model is that of one worker.
func TestDeadLink(t *testing.T) {
	t.Parallel()
	net := newNetwork(t, 3)
	root := t.TempDir()
	secret := []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)}
	dir := filepath.Join(root, "0")
	var nodes [3]*process
	for i := range nodes {
		args := []string{"--nodes", "3", "--workers", "1", "--set", "cluster.bind=" + net.addrs[i], "--set", "train.steps=100000"}
		if i > 0 {
			args = append(args, "--join", nodes[0].says(`--join (\S+)`))
		}
		if i == 2 {
			net.link(t, 1, 2, false)
		}
		nodes[i] = net.start(t, i, secret, training(filepath.Join(root, strconv.Itoa(i)), args...)...)
	}
	world := func(size int, after uint64) metrics.Event {
		return nodes[0].event(dir, fmt.Sprintf("a world of %d", size), func(e metrics.Event) bool {
			return e.Event == metrics.EventGeneration && e.WorldSize == size && e.Generation > after
		})
	}
	two := world(2, 0)
	require.Contains(t, two.Reason, "cannot reach one another")
	nodes[0].step(dir, two.Step+3)
	var out *process
	nodes[0].await("a node that is kept out", func() bool {
		for _, p := range nodes[1:] {
			if strings.Contains(p.stderr.String(), "no connection between") {
				out = p
			}
		}
		return out != nil
	})
	net.link(t, 1, 2, true)
	three := world(3, two.Generation)
	out.says(`(the links of this node work again)`)
	nodes[0].step(dir, three.Step+2)
	nodes[0].signal(syscall.SIGINT)
	for _, p := range nodes {
		p.ended(exitSignal)
	}
	list := events(t, dir)
	stop := list[len(list)-1]
	require.Equal(t, metrics.EventStop, stop.Event)
	alone := filepath.Join(root, "alone")
	run(t, training(alone, "--workers", "1", "--set", "train.steps="+itoa(stop.Step))...).ended(exitOK)
	require.Equal(t, finish(t, alone).ModelDigest, newestDigest(t, dir))
}
