package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// chaosFor is how long TestChaos does harm; make chaos sets it. Without it, the test
// takes a few faults only.
const chaosFor = "CHAOS_MINUTES"

// chaosNodes are three agents on three hosts (network namespaces on one switch), each
// under one command that is given again whenever the agent is gone.
type chaosNodes struct {
	t      *testing.T
	net    *network
	rand   *rand.Rand
	env    []string
	args   [3][]string
	dirs   [3]string
	agents [3]*process
	told   [3]*metrics.Reader // of their events: what was read once is not read again
	newest int64              // step
	digest string             // at the end; empty: nobody has finished
	began  time.Time
}

// Three nodes train while a fault happens every few seconds: agents and workers are
// killed or stopped, cables pulled, the node that holds the coordinator among them.
// When it is over all finish, and the model is that of one undisturbed worker.
func TestChaos(t *testing.T) {
	minutes, err := strconv.ParseFloat(os.Getenv(chaosFor), 64)
	if err != nil {
		t.Skipf("set %s, or run make chaos MINUTES=N", chaosFor)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("CHAOS_SEED=%d gives the same faults in the same order", seed)
	c := &chaosNodes{
		t: t, net: newNetwork(t, 3), rand: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
		env: []string{"AGRDIST_CLUSTER_SECRET=" + strings.Repeat("0123456789abcdef", 2)},
	}
	// Steps take some milliseconds; there are enough of them for the whole time.
	steps := int64(minutes*60*100) + 400
	root := t.TempDir()
	for i := range 3 {
		c.dirs[i] = filepath.Join(root, strconv.Itoa(i))
		args := []string{
			"--nodes", "1:3", "--workers", "1", "--set", "cluster.bind=" + c.net.addrs[i], "--set", "cluster.gossip_port=7946",
			"--set", "train.steps=" + itoa(steps), "--set", "checkpoint.every=200", "--set", "log.every=1", "--set", "dashboard.bind=off",
		}
		if i > 0 {
			args = append(args, "--join", c.net.addrs[0]+":7946")
		}
		c.told[i] = metrics.OpenReader(filepath.Join(c.dirs[i], "events.jsonl"))
		t.Cleanup(func() { require.NoError(t, c.told[i].Close()) })
		c.args[i] = training(c.dirs[i], args...)
		c.start(i)
	}
	c.awaitProgress()
	faults := map[string]int{}
	for time.Since(c.began) < time.Duration(minutes*float64(time.Minute)) && !c.finished() {
		name := c.harm()
		faults[name]++
		c.awaitProgress()
	}
	c.net.heal(t)
	for i, p := range c.agents {
		if p == nil {
			c.start(i)
		}
	}
	for i := range 3 {
		require.Zero(t, c.agents[i].patient(10*time.Minute), c.agents[i].stderr.String())
	}
	require.True(t, c.finished(), "nobody finished")
	t.Logf("faults: %v", faults)

	alone := filepath.Join(root, "alone")
	p := start(t, training(alone, "--workers", "1", "--set", "train.steps="+itoa(steps), "--set", "checkpoint.every=1000", "--set", "log.every=1000")...)
	require.Zero(t, p.patient(20*time.Minute))
	require.Equal(t, finish(t, alone).ModelDigest, c.digest, "the model of one undisturbed worker")
}

func (c *chaosNodes) start(i int) {
	c.agents[i] = c.net.start(c.t, i, c.env, c.args[i]...)
}

// harm does one thing, waits a little, and undoes it.
func (c *chaosNodes) harm() string {
	i := c.rand.IntN(3)
	pause := time.Duration(500+c.rand.IntN(4500)) * time.Millisecond
	faults := []string{"kill agent", "kill worker", "stop agent", "stop worker", "pull cable", "drain"}
	name := faults[c.rand.IntN(len(faults))]
	c.t.Logf("%6.1fs step %d: %s of node %d for %s", time.Since(c.began).Seconds(), c.step(), name, i, pause)
	p := c.agents[i]
	switch name {
	case "kill agent":
		p.signal(syscall.SIGKILL)
		p.wait()
		time.Sleep(pause)
		c.start(i)
	case "drain":
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.wait()
		time.Sleep(pause)
		for j := range c.agents { // the others too, if too few were left and the run was stopped
			if c.agents[j].over() {
				c.start(j)
			}
		}
	case "stop agent":
		p.signal(syscall.SIGSTOP)
		time.Sleep(pause)
		p.signal(syscall.SIGCONT)
	case "kill worker", "stop worker":
		for _, pid := range children(c.t, p.cmd.Process.Pid) {
			if name == "kill worker" {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
				continue
			}
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
		}
		time.Sleep(pause)
	case "pull cable":
		c.net.cable(c.t, i, "down")
		time.Sleep(pause)
		c.net.cable(c.t, i, "up")
	}
	return name
}

// children are the processes that another one started.
func children(t *testing.T, pid int) (out []int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // a thread that has just ended has none
		for f := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(f)
			require.NoError(t, err)
			out = append(out, n)
		}
	}
	return out
}

// step is the newest step that any node has told of.
func (c *chaosNodes) step() int64 {
	c.read()
	return c.newest
}

// read takes in what the nodes have told since the last call.
func (c *chaosNodes) read() {
	for _, r := range c.told {
		b, err := r.Read()
		require.NoError(c.t, err)
		for _, e := range b.Events {
			if e.Event == metrics.EventStep {
				c.newest = max(c.newest, e.Step)
			}
			if e.Event == metrics.EventFinish {
				c.digest = e.ModelDigest
			}
		}
	}
}

func (c *chaosNodes) finished() bool {
	c.read()
	return c.digest != ""
}

// awaitProgress waits until the run makes steps again, whatever has happened to it.
func (c *chaosNodes) awaitProgress() {
	c.t.Helper()
	from, began := c.step(), time.Now()
	for c.step() < from+5 && !c.finished() {
		if time.Since(began) > limit {
			c.t.Fatalf("no step after step %d for %s", from, limit)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Logf("        5 steps on after %.1fs", time.Since(began).Seconds())
}
