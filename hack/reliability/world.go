//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// tiny is a model that takes milliseconds a step, with everything in it that a run can
// have: dropout, flips, attention, clipping, the average. Its learning rate does not depend
// on the number of steps, so that runs of any length agree.
var tiny = []string{
	"model.block_out_channels=[8,16]", "model.norm_num_groups=4", "model.dropout=0.1",
	"diffusion.timesteps=100", "data.flip=true", "train.global_batch=16", "train.chunk=2", "train.digest_every=50",
	"lr.warmup_steps=2", "lr.schedule=constant", "sample.count=0", "log.every=1", "log.tensorboard=false", "dashboard.bind=off",
}

const (
	endless        = 1000000 // more steps than are made while faults strike
	saveEvery      = 50      // steps between checkpoints
	secret         = "AGRDIST_CLUSTER_SECRET=0123456789abcdef0123456789abcdef"
	gossipPort     = "7946"
	codeSaved      = 143 // stopped, and the state is saved
	afterTheChange = 10  // steps that show that training has continued
)

// world is one run and its nodes.
type world struct {
	fault
	binary, dir string
	wire        *wire // nil: one node, on loopback
	nodes       []*node

	at, until time.Time // when the fault struck, and when its consequences were over
	next      uint64    // the newest generation when it struck
	// What a fault sets where the events do not say it.
	standstill time.Duration
}

// node is one agent, and its successors that the same command starts.
type node struct {
	dir    string
	cmd    *exec.Cmd
	out    *output
	done   chan struct{}
	events *metrics.Reader
	past   []metrics.Event
}

// output collects what a node says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func newWorld(binary, dir string, f fault) (*world, error) {
	w := &world{fault: f, binary: binary, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for i := range f.nodes {
		n := &node{dir: filepath.Join(dir, strconv.Itoa(i)), out: &output{}}
		n.events = metrics.OpenReader(filepath.Join(n.dir, "events.jsonl"))
		w.nodes = append(w.nodes, n)
	}
	if f.volume {
		if err := os.MkdirAll(w.nodes[0].dir, 0o755); err != nil {
			return nil, err
		}
		if err := syscall.Mount("agrdist-reliability", w.nodes[0].dir, "tmpfs", 0, "size=8m"); err != nil {
			return nil, fmt.Errorf("mount a tmpfs: %w", err)
		}
	}
	var err error
	if f.nodes > 1 {
		w.wire, err = newWire(f.nodes)
	}
	return w, err
}

// start gives the command of a node.
func (w *world) start(ctx context.Context, i int) error {
	n := w.nodes[i]
	args := []string{"run", "--out", n.dir, "--workers", strconv.Itoa(w.workers)}
	set := append(append([]string(nil), tiny...), "train.steps="+strconv.Itoa(endless), "checkpoint.every="+strconv.Itoa(saveEvery))
	command := []string{w.binary}
	if w.wire != nil {
		command = []string{"ip", "netns", "exec", w.wire.names[i], w.binary} // ip becomes the program
		args = append(args, "--nodes", fmt.Sprintf("%d:%d", max(w.least, 1), max(w.fault.nodes, w.least+1)))
		set = append(set, "cluster.bind="+address(i), "cluster.gossip_port="+gossipPort, "cluster.form_wait=10s")
		if i > 0 {
			args = append(args, "--join", address(0)+":"+gossipPort)
		}
	}
	for _, s := range append(set, w.set...) {
		args = append(args, "--set", s)
	}
	command = append(command, args...)
	n.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	n.cmd.Env = append(os.Environ(), secret)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this program
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.done = make(chan struct{})
	go func() {
		_ = n.cmd.Wait() // the exit code says it
		close(n.done)
	}()
	return nil
}

func (n *node) alive() bool {
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// signal sends one to a node's agent; SIGKILL also waits for its end.
func (n *node) signal(s syscall.Signal) error {
	if err := n.cmd.Process.Signal(s); err != nil {
		return err
	}
	if s == syscall.SIGKILL {
		<-n.done
	}
	return nil
}

// code waits for a node's end and returns its exit code.
func (n *node) code(ctx context.Context) (int, error) {
	select {
	case <-n.done:
		return n.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the end of %s: %w", n.dir, context.Cause(ctx))
	}
}

// strikes marks the moment of the fault.
func (w *world) strikes() {
	w.next = 0
	if g, err := w.generation(); err == nil {
		w.next = g.Generation
	}
	w.at = time.Now()
}

// kill sends a signal to the workers of some ranks.
func (w *world) kill(s syscall.Signal, ranks ...int) error {
	g, err := w.generation()
	if err != nil {
		return err
	}
	pids := make([]int, len(g.Members))
	for i, m := range g.Members {
		_, text, _ := strings.Cut(m, "(pid ")
		if pids[i], err = strconv.Atoi(strings.TrimSuffix(text, ")")); err != nil {
			return fmt.Errorf("no process id in %q", m)
		}
	}
	w.strikes()
	for _, r := range ranks {
		if err := syscall.Kill(pids[r], s); err != nil {
			return fmt.Errorf("rank %d: %w", r, err)
		}
	}
	return nil
}

// events reads what all nodes have told so far, in the order of time.
func (w *world) events() ([]metrics.Event, error) {
	var all []metrics.Event
	for _, n := range w.nodes {
		b, err := n.events.Read()
		if err != nil {
			return nil, err
		}
		n.past = append(n.past, b.Events...)
		all = append(all, n.past...)
	}
	return sorted(all), nil
}

// generation is the newest one.
func (w *world) generation() (newest metrics.Event, err error) {
	all, err := w.events()
	for _, e := range all {
		if e.Event == metrics.EventGeneration && e.Generation >= newest.Generation {
			newest = e
		}
	}
	if err == nil && newest.Event == "" {
		err = errors.New("no generation yet")
	}
	return newest, err
}

// until waits for something.
func until(ctx context.Context, what string, found func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := found(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

// world waits until so many workers train in a generation that is newer than the fault.
func (w *world) world(ctx context.Context, size int) error {
	return until(ctx, fmt.Sprintf("%d workers that train", size), func() (bool, error) {
		all, err := w.events()
		steps, now := 0, uint64(0)
		for _, e := range all {
			if e.Event == metrics.EventGeneration && e.Generation >= now {
				now, steps = e.Generation, 0
			}
			if e.Event == metrics.EventStep && e.Generation == now && e.WorldSize == size && now > w.next {
				steps++
			}
		}
		return steps >= afterTheChange, err
	})
}

// trains waits for some more steps.
func (w *world) trains(ctx context.Context, steps int) error {
	from := time.Now()
	return until(ctx, fmt.Sprintf("%d more steps", steps), func() (bool, error) {
		all, err := w.events()
		n := 0
		for _, e := range all {
			if e.Event == metrics.EventStep && when(e).After(from) {
				n++
			}
		}
		return n >= steps, err
	})
}

// says waits until the first node has said something.
func (w *world) says(ctx context.Context, pattern string) error {
	re := regexp.MustCompile(pattern)
	return until(ctx, fmt.Sprintf("node 0 to say %q", pattern), func() (bool, error) {
		return re.MatchString(w.nodes[0].out.String()), nil
	})
}

// end saves the run and ends it, on all nodes.
func (w *world) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	asked := false
	for i, n := range w.nodes {
		if n.alive() && !asked {
			asked = true
			if err := n.signal(syscall.SIGINT); err != nil { // of any node stops them all
				return err
			}
		}
		if !asked {
			continue
		}
		if code, err := n.code(ctx); err != nil || code != codeSaved {
			return errors.Join(err, fmt.Errorf("node %d ended with %d at the stop", i, code))
		}
	}
	return nil
}

// said is what all nodes said, for an error.
func (w *world) said() string {
	var text strings.Builder
	for i, n := range w.nodes {
		fmt.Fprintf(&text, "--- node %d\n%s", i, n.out)
	}
	return text.String()
}

func (w *world) close() error {
	var errs []error
	for _, n := range w.nodes {
		if n.alive() {
			_ = n.cmd.Process.Signal(syscall.SIGCONT)
			errs = append(errs, n.signal(syscall.SIGKILL))
		}
		errs = append(errs, n.events.Close())
	}
	if w.wire != nil {
		errs = append(errs, w.wire.close())
	}
	if w.volume {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, until(ctx, "the end of whoever uses "+w.nodes[0].dir, func() (bool, error) {
			return syscall.Unmount(w.nodes[0].dir, 0) == nil, nil
		}))
	}
	return errors.Join(errs...)
}
