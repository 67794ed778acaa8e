//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fault is a row of the table.
type fault struct {
	name, what     string
	nodes, workers int      // workers are of a node
	least          int      // nodes below which the run pauses; 0: 1
	later          int      // the last nodes, which the fault starts
	volume         bool     // the run's directory is a file system of its own
	set            []string // settings
	reacts         string   // the line of agent.log that says that the fault was noticed
	promise        time.Duration
	again          int64 // steps that may be made a second time
	strike         func(ctx context.Context, w *world) error
}

const (
	formed  = `msg="generation formed"`
	nothing = "\n" // is in no line
)

// A step that rank 0 committed and told of just before it died is made again by the others
// where none of them had heard that it was committed. It gives the same bits.
const lastWord = 1

// What is made again where no process was left: the steps since the last checkpoint, and
// those that were made while it was written.
const sinceSaved = 2 * saveEvery

var faults = []fault{
	{
		name: "worker-killed", what: "a worker of 3 is killed (SIGKILL)",
		nodes: 1, workers: 3, promise: time.Second,
		strike: func(ctx context.Context, w *world) error {
			return errors.Join(w.kill(syscall.SIGKILL, 1), w.world(ctx, 3))
		},
	},
	{
		name: "rank-0-killed", what: "rank 0 is killed",
		nodes: 1, workers: 3, promise: time.Second, again: lastWord,
		strike: func(ctx context.Context, w *world) error {
			return errors.Join(w.kill(syscall.SIGKILL, 0), w.world(ctx, 3))
		},
	},
	{
		name: "worker-hangs", what: "a worker hangs (SIGSTOP)",
		nodes: 1, workers: 3, promise: 4 * time.Second,
		strike: func(ctx context.Context, w *world) error {
			return errors.Join(w.kill(syscall.SIGSTOP, 1), w.world(ctx, 3))
		},
	},
	{
		name: "all-workers-killed", what: "all workers of the only node are killed",
		nodes: 1, workers: 3, promise: 2 * time.Second, again: sinceSaved,
		strike: func(ctx context.Context, w *world) error {
			return errors.Join(w.saved(ctx), w.kill(syscall.SIGKILL, 0, 1, 2), w.world(ctx, 3))
		},
	},
	{
		name: "no-replacement", what: "a worker is killed where no process can be started (no descriptor left)",
		nodes: 1, workers: 3, promise: 8 * time.Second, strike: noReplacement,
	},
	{
		name: "agent-killed", what: "a node is lost (SIGKILL of its agent), and comes back by the same command",
		nodes: 3, workers: 1, promise: 5 * time.Second,
		strike: func(ctx context.Context, w *world) error { return w.lost(ctx, 1) },
	},
	{
		name: "coordinator-killed", what: "the node that holds the coordinator and rank 0 is lost, and comes back",
		nodes: 3, workers: 1, promise: 5 * time.Second, again: lastWord,
		strike: func(ctx context.Context, w *world) error { return w.lost(ctx, 0) },
	},
	{
		name: "coordinator-and-member", what: "the coordinator's node and a worker of another one are lost together",
		nodes: 3, workers: 2, promise: 5 * time.Second, again: lastWord, strike: coordinatorAndMember,
	},
	{
		name: "coordinator-hangs", what: "the agent that holds the coordinator hangs for 10 s",
		nodes: 3, workers: 1, promise: time.Second, reacts: "this node takes over", strike: coordinatorHangs,
	},
	{
		name: "node-drained", what: "a node is asked to leave (SIGTERM of its agent)",
		nodes: 3, workers: 1, promise: time.Second,
		strike: func(ctx context.Context, w *world) error {
			w.strikes()
			if err := w.nodes[1].signal(syscall.SIGTERM); err != nil {
				return err
			}
			code, err := w.nodes[1].code(ctx)
			if err != nil || code != codeSaved {
				return errors.Join(err, fmt.Errorf("the drained node ended with %d", code))
			}
			return w.world(ctx, 2)
		},
	},
	{
		name: "below-min", what: "a node of a run of at least 2 (--nodes 2:3) is lost, and the run waits: from the command that starts it again until all train",
		nodes: 2, workers: 1, least: 2, promise: 5 * time.Second, reacts: "1 more node", strike: belowMin,
	},
	{
		name: "node-joins", what: "a third node joins",
		nodes: 3, workers: 1, later: 1, promise: time.Second, reacts: nothing,
		strike: func(ctx context.Context, w *world) error {
			w.strikes()
			return errors.Join(w.start(ctx, 2), w.world(ctx, 3))
		},
	},
	{
		name: "network-cut", what: "one node of 3 is cut off; the cable is plugged in again",
		nodes: 3, workers: 1, promise: 5 * time.Second,
		strike: func(ctx context.Context, w *world) error { return w.unplugged(ctx, 2) },
	},
	{
		name: "coordinator-cut", what: "the same with the coordinator's node",
		nodes: 3, workers: 1, promise: 12 * time.Second, again: lastWord,
		strike: func(ctx context.Context, w *world) error { return w.unplugged(ctx, 0) },
	},
	{
		name: "dead-link", what: "two nodes of 3 can no longer reach one another; the link is repaired",
		nodes: 3, workers: 1, promise: 40 * time.Second,
		strike: func(ctx context.Context, w *world) error {
			w.strikes()
			w.wire.link(1, 2, false)
			err := w.world(ctx, 2)
			w.wire.link(1, 2, true)
			return errors.Join(err, w.world(ctx, 3))
		},
	},
	{
		name: "flapping", what: "the cable between 2 nodes is out for every other second, for 20 s",
		nodes: 2, workers: 1, promise: 15 * time.Second, strike: flapping,
	},
	{
		name: "packet-loss", what: "every fifth packet of 2 nodes is lost, for 20 s",
		nodes: 2, workers: 1, promise: 5 * time.Second,
		strike: func(ctx context.Context, w *world) error {
			w.strikes()
			w.wire.lose(0.2)
			err := pause(ctx, 20*time.Second)
			w.wire.lose(0)
			return errors.Join(err, w.whole(ctx, 2))
		},
	},
	{
		name: "stop", what: "SIGTERM of a run of 4 workers: until it has saved and ended; the same command continues",
		nodes: 1, workers: 4, promise: 10 * time.Second, reacts: "msg=stopping", strike: stop,
	},
	{
		name: "power-cut", what: "all nodes are lost at once (SIGKILL of all agents); the same commands again",
		nodes: 3, workers: 1, promise: 25 * time.Second, again: sinceSaved, strike: powerCut,
	},
	{
		name: "full-disk", what: "the disk is full at the end: from room until it has saved and ended",
		nodes: 1, workers: 2, volume: true, promise: 5 * time.Second, reacts: nothing, set: []string{"train.steps=400"}, strike: fullDisk,
	},
}

// saved waits for a checkpoint.
func (w *world) saved(ctx context.Context) error {
	return until(ctx, "a checkpoint", func() (bool, error) {
		all, err := w.events()
		for _, e := range all {
			if e.Event == "checkpoint" {
				return true, err
			}
		}
		return false, err
	})
}

// whole waits until all train, in a new generation or in the old one.
func (w *world) whole(ctx context.Context, size int) error {
	w.next = 0
	return errors.Join(w.world(ctx, size), w.trains(ctx, afterTheChange))
}

// lost kills a node of three and gives its command again.
func (w *world) lost(ctx context.Context, i int) error {
	w.strikes()
	return errors.Join(w.nodes[i].signal(syscall.SIGKILL), w.world(ctx, 2), w.start(ctx, i), w.world(ctx, 3))
}

// unplugged pulls a node's cable and plugs it in again when the others have continued.
func (w *world) unplugged(ctx context.Context, i int) error {
	w.strikes()
	w.wire.cable(i, false)
	err := w.world(ctx, 2)
	w.wire.cable(i, true)
	return errors.Join(err, w.world(ctx, 3))
}

// noReplacement leaves the agent no file descriptor, until the others have continued.
func noReplacement(ctx context.Context, w *world) error {
	agent := w.nodes[0].cmd.Process.Pid
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(agent), "fd"))
	if err != nil {
		return err
	}
	var before unix.Rlimit
	if err := unix.Prlimit(agent, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		return err
	}
	starved := before
	starved.Cur = uint64(len(open)) - 2 // what a dead worker leaves is not enough either
	if err := unix.Prlimit(agent, unix.RLIMIT_NOFILE, &starved, nil); err != nil {
		return err
	}
	if err := errors.Join(w.kill(syscall.SIGKILL, 1), w.world(ctx, 2), w.says(ctx, "cannot start worker 1")); err != nil {
		return err
	}
	return errors.Join(unix.Prlimit(agent, unix.RLIMIT_NOFILE, &before, nil), w.world(ctx, 3))
}

func coordinatorAndMember(ctx context.Context, w *world) error {
	of1, err := children(w.nodes[1].cmd.Process.Pid)
	if err != nil || len(of1) == 0 {
		return errors.Join(err, errors.New("node 1 has no worker"))
	}
	w.strikes()
	return errors.Join(w.nodes[0].signal(syscall.SIGKILL), syscall.Kill(of1[0], syscall.SIGKILL), w.world(ctx, 4), w.start(ctx, 0), w.world(ctx, 6))
}

func coordinatorHangs(ctx context.Context, w *world) error {
	w.strikes()
	if err := w.nodes[0].signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := pause(ctx, 10*time.Second)
	return errors.Join(err, w.nodes[0].signal(syscall.SIGCONT), w.says(ctx, "stands down"), w.whole(ctx, 3))
}

func flapping(ctx context.Context, w *world) error {
	w.strikes()
	for range 10 {
		w.wire.cable(1, false)
		err := pause(ctx, time.Second)
		w.wire.cable(1, true)
		if err = errors.Join(err, pause(ctx, time.Second)); err != nil {
			return err
		}
	}
	return w.whole(ctx, 2)
}

// pause lets a fault last.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// belowMin loses one of the nodes that a run needs, sees that it pauses, and brings it back.
func belowMin(ctx context.Context, w *world) error {
	w.strikes()
	if err := errors.Join(w.nodes[1].signal(syscall.SIGKILL), w.says(ctx, "waiting for 1 more node")); err != nil {
		return err
	}
	before, err := w.events()
	if err = errors.Join(err, pause(ctx, 3*time.Second)); err != nil {
		return err
	}
	after, err := w.events()
	if err != nil || len(after) > len(before) {
		return errors.Join(err, fmt.Errorf("the run continued below its least number of nodes: %d events", len(after)-len(before)))
	}
	back := time.Now()
	if err := errors.Join(w.start(ctx, 1), w.world(ctx, 2)); err != nil {
		return err
	}
	w.standstill = time.Since(back)
	return nil
}

func stop(ctx context.Context, w *world) error {
	w.strikes()
	if err := w.nodes[0].signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := w.nodes[0].code(ctx)
	if err != nil || code != codeSaved {
		return errors.Join(err, fmt.Errorf("the run ended with %d", code))
	}
	w.standstill = time.Since(w.at)
	return errors.Join(w.start(ctx, 0), w.trains(ctx, afterTheChange))
}

func powerCut(ctx context.Context, w *world) error {
	if err := w.saved(ctx); err != nil {
		return err
	}
	w.strikes()
	for _, n := range w.nodes {
		if err := n.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for i := range w.nodes {
		if err := w.start(ctx, i); err != nil {
			return err
		}
	}
	return w.world(ctx, 3)
}

func fullDisk(ctx context.Context, w *world) error {
	filler, err := os.Create(filepath.Join(w.nodes[0].dir, "filler"))
	if err != nil {
		return err
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	if err := errors.Join(filler.Close(), w.says(ctx, "the disk is full: waiting for room")); err != nil {
		return err
	}
	w.strikes()
	if err := os.Remove(filler.Name()); err != nil {
		return err
	}
	code, err := w.nodes[0].code(ctx)
	if err != nil || code != 0 {
		return errors.Join(err, fmt.Errorf("the run ended with %d", code))
	}
	w.standstill = time.Since(w.at)
	return nil
}

// children are the processes that another one started.
func children(pid int) (out []int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // a thread that has just ended has none
		for f := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
	}
	return out, nil
}
