package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/agent"
	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/worker"
	"github.com/agrdist/agrdist/worker/spec"
)

func runCommand() *cobra.Command {
	var (
		s       settings
		workers int
		join    []string
		nodes   string
		out     string
		resume  string
		images  string
	)
	c := &cobra.Command{
		Use:   "run",
		Short: "Train: start this node's workers, alone or with other nodes",
		Long: `Train. With no arguments: 2 workers on this machine's CPU learn the embedded
digits. Every setting has a key (agrdist config print), an environment variable
AGRDIST_SECTION_KEY and --set; the last of file, environment, --set wins.

Ctrl-C or SIGTERM saves a checkpoint on all nodes and exits with 143; the same
command goes on from there. A second Ctrl-C kills at once.

Exit codes: 0 done, 1 failed, 2 usage, 42 a configuration that cannot work
(never worth a retry), 143 stopped by a signal after a checkpoint.`,
		Example: `  agrdist run
  agrdist run -c configs/cifar10-adan-agr.yaml --workers 4
  agrdist run --data photos                            # an image folder
  agrdist run --nodes 2                                # the first node prints its address
  agrdist run --nodes 2 --join 10.0.0.1:7946 --out D2  # the second joins it`,
		RunE: func(c *cobra.Command, _ []string) error {
			var extra []string
			for flag, set := range map[string]string{
				"workers": fmt.Sprintf("cluster.workers=%d", workers),
				"join":    "cluster.join=[" + strings.Join(join, ",") + "]",
				"nodes":   fmt.Sprintf("cluster.nodes=%q", nodes),
				"out":     fmt.Sprintf("out=%q", out),
				"resume":  fmt.Sprintf("checkpoint.resume=%q", resume),
			} {
				if c.Flags().Changed(flag) {
					extra = append(extra, set)
				}
			}
			if images != "" {
				base, err := propose(c.Context(), images, c.ErrOrStderr())
				if err != nil {
					return err
				}
				s.base = base
			}
			cfg, err := s.load(extra...)
			if err != nil {
				return err
			}
			return (&runner{cfg: cfg, command: resumeHint(os.Args), stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}).run(c.Context())
		},
	}
	s.flags(c)
	c.Flags().StringVar(&images, "data", "", "directory of images: train on it by a recipe that what is there suggests, and print that")
	c.Flags().IntVar(&workers, "workers", 2, "worker processes on this node (cluster.workers)")
	c.Flags().StringSliceVar(&join, "join", nil, "HOST:PORT of nodes already in the run (cluster.join)")
	c.Flags().StringVar(&nodes, "nodes", "1", "nodes of the run, N or MIN:MAX (cluster.nodes)")
	c.Flags().StringVarP(&out, "out", "o", "", "the run's directory (out)")
	c.Flags().StringVar(&resume, "resume", "auto", "auto, never, or a run or checkpoint directory (checkpoint.resume)")
	return c
}

// resumeHint is the command line as the user typed it, for a shell to read.
func resumeHint(args []string) string {
	words := []string{program(args[0])}
	for _, a := range args[1:] {
		if a == "" || strings.ContainsAny(a, " \t\n\"'`$&|;<>()[]{}*?!~#\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// program is how the user started this program: as typed, or by go run, whose
// binary is gone afterwards.
func program(arg0 string) string {
	if strings.Contains(arg0, "/go-build") && strings.Contains(arg0, "/exe/") {
		return "go run ./cmd/agrdist"
	}
	return arg0
}

// runner is one invocation of agrdist run.
type runner struct {
	cfg            *config.Config
	command        string
	stdout, stderr io.Writer

	dir    string
	images *data.Index // of an image folder
	view   *display
	last   cluster.Status
}

func (r *runner) run(ctx context.Context) error {
	secret, err := secretOf(r.cfg)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // where there is none, nothing is dropped
	r.cfg.Cluster.Join = dropSelf(r.cfg.Cluster.Join, host, r.cfg.Cluster.Node)
	if r.dir, err = filepath.Abs(r.cfg.Out); err != nil {
		return fmt.Errorf("out: %w", err)
	}
	if err := r.scanData(ctx); err != nil {
		return err
	}
	unlock, done, err := r.prepare(ctx)
	if err != nil || done {
		return err
	}
	defer unlock()

	stop := make(chan os.Signal, 2)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)

	log, closeLog, err := r.openLog()
	if err != nil {
		return err
	}
	defer closeLog()
	r.view = newDisplay(r.stderr, r.cfg.Train.GlobalBatch)
	defer r.view.close()
	began := time.Now()
	end, err := agent.Run(ctx, stop, agent.Config{
		Run: r.cfg, RunDir: r.dir, Node: nodeName(r.cfg), Version: version.Build(), Secret: secret,
		Command: r.worker, Logger: log, Output: &warnings{r.view},
		Notice:   func(text string) { fmt.Fprintln(r.view, "agrdist: "+text) },
		Joinable: r.joinable,
		Watch: func(s cluster.Status) {
			r.last = s
			r.view.update(s)
		},
	})
	r.view.close()
	if early, ok := errors.AsType[*agent.SignalError](err); ok {
		return &exitError{exitSignal, early.Error()}
	}
	if err != nil {
		return err
	}
	return r.conclude(end, time.Since(began))
}

// scanData looks at all images once before any process is started.
func (r *runner) scanData(ctx context.Context) (err error) {
	bar := newCounter(r.stderr, "data:")
	r.images, err = setup.ScanData(ctx, r.cfg, bar.phase)
	bar.close()
	return err
}

// writeIndex leaves the list of images for the workers, and says what is not used.
func (r *runner) writeIndex() error {
	skipped, err := setup.WriteIndex(r.dir, r.images)
	if err != nil {
		return fmt.Errorf("cannot write the list of images: %w", err)
	}
	if skipped != "" {
		fmt.Fprintf(r.stderr, "agrdist: data: %d images; not used: %s (listed in %s)\n", len(r.images.Images), r.images.Summary(), skipped)
	}
	return nil
}

// openLog opens the agent's own log, logs/agent.log or logs/NODE-agent.log.
func (r *runner) openLog() (*slog.Logger, func(), error) {
	path := filepath.Join(r.dir, "logs", r.logName("agent")+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the log: %w", err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.cfg.Log.Level)); err != nil {
		return nil, nil, errors.Join(&config.Error{Source: "log.level", Err: err}, f.Close())
	}
	log := slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: level}))
	return log, func() { _ = f.Close() }, nil // nothing depends on its last line
}

// logName is the name of a process of this node: its logs may lie beside those of
// other nodes.
func (r *runner) logName(process string) string {
	if r.cfg.Cluster.Nodes == "1" {
		return process
	}
	return nodeName(r.cfg) + "-" + process
}

// prepare makes the run's directory, takes its lock and finds out what there is
// to resume. done means that the run is finished already.
func (r *runner) prepare(ctx context.Context) (unlock func(), done bool, err error) {
	fail := func(err error) (func(), bool, error) { return nil, false, err }
	if err := os.MkdirAll(filepath.Join(r.dir, "logs"), 0o755); err != nil {
		return fail(fmt.Errorf("cannot make the run's directory: %w; choose another with --out", err))
	}
	unlock = func() {}
	if len(r.cfg.Cluster.Join) == 0 { // the nodes of a run may share its directory
		lock, err := checkpoint.LockRun(r.dir)
		if err != nil {
			return fail(err)
		}
		unlock = func() {
			if err := lock.Unlock(); err != nil {
				complain(r.stderr, err.Error())
			}
		}
	}
	if done, err = r.resumable(ctx); err == nil && !done {
		err = r.writeIndex()
	}
	if err == nil && !done {
		err = renameio.WriteFile(filepath.Join(r.dir, "config.yaml"), r.cfg.YAML(false), 0o644)
	}
	if err != nil || done {
		unlock()
	}
	return unlock, done, err
}

// resumable looks at the checkpoints of the run's directory before any process
// is started.
func (r *runner) resumable(ctx context.Context) (done bool, err error) {
	store := worker.OpenStore(r.cfg, r.dir, nil, nil)
	if r.cfg.Checkpoint.Resume == "never" {
		// What is saved from now on is this run's own: its workers go on from
		// it when all of them were lost, and so does the next invocation.
		r.cfg.Checkpoint.Resume = "auto"
		r.command += " --resume auto"
		return false, r.setAside(store)
	}
	snap, info, skipped, err := store.Newest(ctx) // as a worker will: whole, with every checksum
	for _, k := range skipped {
		complain(r.stderr, fmt.Sprintf("passed over %s: %v", k.Path, k.Reason))
	}
	if errors.Is(err, checkpoint.ErrNoCheckpoint) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := worker.Fits(r.cfg, snap, info.Path); err != nil {
		return false, err
	}
	if info.Step < r.cfg.Train.Steps {
		fmt.Fprintf(r.stderr, "agrdist: resuming %s at step %d of %d\n", r.cfg.Out, info.Step, r.cfg.Train.Steps)
		return false, nil
	}
	fmt.Fprintf(r.stdout, `%s is finished: %d of %d steps, digest %s
  go on     add --set train.steps=%d
  anew      add --resume never (the old run is set aside), or --out DIR
`, r.cfg.Out, info.Step, r.cfg.Train.Steps, short(info.ModelDigest), 2*info.Step)
	return true, nil
}

// setAside moves what an earlier run left, so that starting anew destroys
// nothing.
func (r *runner) setAside(store *checkpoint.Store) error {
	infos, bad, err := store.List()
	if err != nil || len(infos)+len(bad) == 0 {
		return err
	}
	if len(r.cfg.Cluster.Join) > 0 { // the directory may be shared with a run that goes on
		lock, err := checkpoint.LockRun(r.dir)
		if errors.Is(err, checkpoint.ErrRunLocked) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = lock.Unlock() }() // it ends with the process at the latest
	}
	aside := filepath.Join(r.dir, "earlier-"+time.Now().Format("20060102-150405"))
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return fmt.Errorf("cannot set the earlier run aside: %w", err)
	}
	for _, name := range []string{"checkpoints", "samples", "events.jsonl", "config.yaml", "coordinator.json"} {
		err := os.Rename(filepath.Join(r.dir, name), filepath.Join(aside, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot set the earlier run aside: %w", err)
		}
	}
	fmt.Fprintf(r.stderr, "agrdist: the earlier run in %s was moved to %s\n", r.cfg.Out, aside)
	return nil
}

// worker is the command line of a worker process: this program.
func (r *runner) worker(slot int, s spec.Spec) (supervise.Command, error) {
	self, err := os.Executable()
	if err != nil {
		return supervise.Command{}, fmt.Errorf("cannot find this program's file: %w", err)
	}
	variable, err := s.Environment()
	if err != nil {
		return supervise.Command{}, err
	}
	name := r.logName(fmt.Sprintf("worker-%d", slot))
	return supervise.Command{Name: name, Path: self, Args: []string{"worker"}, Env: append(os.Environ(), variable)}, nil
}

func (r *runner) joinable(addr string) {
	if r.cfg.Cluster.Nodes != "1" && len(r.cfg.Cluster.Join) == 0 {
		fmt.Fprintf(r.view, "agrdist: other nodes join with --nodes %s --join %s\n", r.cfg.Cluster.Nodes, addr)
	}
}
