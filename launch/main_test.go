package launch_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agent"
	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/worker"
)

// The test binary is the worker too: a real one, or one that heeds nothing.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "deaf-worker" {
		signal.Ignore(syscall.SIGTERM)
		if err := os.WriteFile(os.Args[2], nil, 0o600); err != nil {
			panic(err)
		}
		supervise.WatchParent(os.Stdin, func() { os.Exit(1) })
		select {}
	}
	if supervise.Supervised() {
		code, err := worker.Main(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	leaktest.Main(m)
}

// tiny is a run of a second or two in a directory of the test.
func tiny(t *testing.T, set ...string) *config.Config {
	t.Helper()
	c, err := setup.Load(config.Source{
		Environ: []string{},
		Set: append([]string{
			"out=" + filepath.Join(t.TempDir(), "run"), "model.block_out_channels=[8,16]", "model.norm_num_groups=4",
			"diffusion.timesteps=100", "train.steps=6", "train.global_batch=8", "train.chunk=2", "lr.warmup_steps=2",
			"lr.schedule=constant", "checkpoint.every=4", "sample.count=4", "sample.steps=2",
		}, set...),
	})
	require.NoError(t, err)
	return c
}

// Runs are function calls: several at once in one process, of which each is what it
// would be alone.
func TestSeveralRunsAtOnce(t *testing.T) {
	configs := []*config.Config{tiny(t), tiny(t, "cluster.workers=1"), tiny(t, "seed=1")}
	outs := make([]launch.Outcome, len(configs))
	var runs sync.WaitGroup
	for i, c := range configs {
		runs.Go(func() {
			out, err := launch.Run(t.Context(), launch.Options{Config: c, Notice: func(s string) { t.Log(i, s) }})
			if err != nil {
				t.Error(err)
			}
			outs[i] = out
		})
	}
	runs.Wait()
	for i, o := range outs {
		require.Equal(t, launch.Finished, o.Ending, o.Reason)
		require.Equal(t, int64(6), o.Step)
		require.Zero(t, o.Code)
		require.NotNil(t, o.Loss)
		src, err := rundir.OpenWeights(t.Context(), configs[i].Out, false)
		require.NoError(t, err)
		require.Equal(t, o.Dir.Checkpoint(6), src.Path)
		require.Equal(t, o.Digest, src.Manifest.ModelDigest)
	}
	require.Equal(t, outs[0].Digest, outs[1].Digest, "the same on 1 and 2 workers")
	require.NotEqual(t, outs[0].Digest, outs[2].Digest)
	require.NotEqual(t, outs[0].Dir, outs[1].Dir)

	again, err := launch.Run(t.Context(), launch.Options{Config: configs[0]})
	require.NoError(t, err)
	require.Equal(t, launch.Already, again.Ending)
	require.Equal(t, outs[0].Digest, again.Digest)
	require.Equal(t, "auto", configs[0].Checkpoint.Resume, "the caller's configuration is not changed")
}

// A run waits for the process before it, which may be saving, to leave the directory and
// the node's name; not by default, and not for longer than it is told.
func TestWaitsForTheDirectory(t *testing.T) {
	c := tiny(t, "cluster.node=n")
	lock, err := rundir.Dir(c.Out).Lock()
	require.NoError(t, err)
	_, err = launch.Run(t.Context(), launch.Options{Config: c})
	require.ErrorIs(t, err, checkpoint.ErrRunLocked)
	c.Cluster.LockWait = "300ms"
	_, err = launch.Run(t.Context(), launch.Options{Config: c})
	require.ErrorIs(t, err, checkpoint.ErrRunLocked)

	node, err := agent.Identify(t.Context(), rundir.Dir(c.Out).Nodes(), "n", "host", true)
	require.NoError(t, err)
	c.Cluster.LockWait = "10m"
	var waits []string
	out, err := launch.Run(t.Context(), launch.Options{Config: c, Notice: func(s string) {
		switch {
		case strings.Contains(s, "checkpoint: run directory in use"):
			waits = append(waits, s)
			_ = lock.Unlock() // Run says if it did not
		case strings.Contains(s, `node "n" is running already`):
			waits = append(waits, s)
			_ = node.Close()
		}
	}})
	require.NoError(t, err)
	require.Equal(t, launch.Finished, out.Ending)
	require.Len(t, waits, 2)
	require.Contains(t, waits[0], "waiting up to 10m0s: ")
}

// The end of the context ends the run and its workers.
func TestContext(t *testing.T) {
	c := tiny(t, "train.steps=100000", "checkpoint.every=0")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := launch.Run(ctx, launch.Options{Config: c, Watch: func(s cluster.Status, _ bool) {
		if s.Step > 0 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	lock, err := rundir.Dir(c.Out).Lock()
	require.NoError(t, err, "the directory is free")
	require.NoError(t, lock.Unlock())
}

// What cannot work is refused before a process starts.
func TestRefusedEarly(t *testing.T) {
	for _, set := range []string{"data.name=folder", "checkpoint.resume=" + t.TempDir(), "checkpoint.resume=/no/such/directory"} {
		more := []string{set}
		if set == "data.name=folder" {
			more = append(more, "data.dir="+t.TempDir())
		}
		c := tiny(t, more...)
		_, err := launch.Run(t.Context(), launch.Options{Config: c, Worker: supervise.Command{Path: "/no/such/program"}})
		var refused *config.Error
		require.ErrorAs(t, err, &refused)
		require.NoDirExists(t, c.Out, "nothing is made for a run that cannot begin")
	}
}

// The third signal ends a run that does not stop, and its workers.
func TestThirdSignalKills(t *testing.T) {
	c := tiny(t, "cluster.workers=1")
	ready := filepath.Join(t.TempDir(), "ready")
	signals := make(chan os.Signal)
	notices := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		_, err := launch.Run(t.Context(), launch.Options{
			Config: c, Signals: signals, Notice: func(s string) { notices <- s },
			Worker: supervise.Command{Path: os.Args[0], Args: []string{"deaf-worker", ready}},
		})
		ended <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(ready); return err == nil }, time.Minute, 5*time.Millisecond)
	first := true
	for {
		select {
		case signals <- syscall.SIGTERM:
			if first {
				require.Contains(t, <-notices, "SIGTERM: saving a checkpoint and stopping")
			}
			first = false
			time.Sleep(1100 * time.Millisecond) // what counts as another request
		case err := <-ended:
			require.ErrorContains(t, err, "killed by")
			return
		}
	}
}
