package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/doctor"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/rundir"
)

func runCommand() *cobra.Command {
	var (
		s         settings
		workers   int
		spares    int
		join      []string
		nodes     string
		out       string
		resume    string
		otherBits bool
		images    string
	)
	c := &cobra.Command{
		Use:   "run",
		Short: "Train: start this node's workers, alone or with other nodes",
		Long: `Train. With no arguments: 2 workers on this machine's CPU learn the embedded
digits. Every setting has a key (agrdist config print), an environment variable
AGRDIST_SECTION_KEY and --set; the last of file, environment, --set wins.

Ctrl-C, SIGTERM or SIGHUP saves a checkpoint on all nodes and exits with 143; the
same command continues from there. Further signals within a second change nothing.
After that a second Ctrl-C, or any third signal, ends the run at once. With --nodes
MIN:MAX or --spares, SIGTERM only takes this node out of the run; a second one stops
all. While fewer than MIN nodes live, the run waits with its state in memory. SIGUSR1 writes a checkpoint now, and training continues.

Exit codes: 0 done, 1 failed, 2 usage, 42 a configuration that cannot work
(never worth a retry), 143 stopped by a signal after a checkpoint.`,
		Example: `  agrdist run
  agrdist run -c configs/cifar10-adan-agr.yaml --workers 4
  agrdist run --data photos                            # an image folder
  agrdist run --nodes 2                                # the first node prints its address
  agrdist run --nodes 2 --join 10.0.0.1:7946 --out D2  # the second joins it
  agrdist run --nodes 2 --spares 1                     # a third node will be a spare`,
		RunE: func(c *cobra.Command, _ []string) error {
			if wantsJSON() {
				speakJSON(c, "")
			}
			var flags []config.Flag
			for _, f := range []config.Flag{
				{Name: "--workers", Key: "cluster.workers", Text: strconv.Itoa(workers)},
				{Name: "--join", Key: "cluster.join", Text: strings.Join(join, ",")},
				{Name: "--nodes", Key: "cluster.nodes", Text: nodes},
				{Name: "--spares", Key: "cluster.spares", Text: strconv.Itoa(spares)},
				{Name: "--out", Key: "out", Text: out},
				{Name: "--resume", Key: "checkpoint.resume", Text: resume},
			} {
				if c.Flags().Changed(strings.TrimPrefix(f.Name, "--")) {
					flags = append(flags, f)
				}
			}
			if images != "" {
				base, err := propose(c.Context(), images, c.ErrOrStderr())
				if err != nil {
					return err
				}
				s.base = base
			}
			cfg, err := s.load(flags...)
			if err != nil {
				return err
			}
			if cfg.Log.Format == config.JSON {
				speakJSON(c, cfg.Cluster.Node)
			}
			if !c.Flags().Changed("out") && !s.sets("out") {
				followConfig(s.file, cfg, c.ErrOrStderr())
			}
			return (&runner{cfg: cfg, otherBits: otherBits, command: resumeHint(os.Args), stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}).run(c.Context())
		},
	}
	s.flags(c)
	c.Flags().StringVar(&images, "data", "", "directory of images: train on it by a recipe that what is there suggests, and print that")
	c.Flags().IntVar(&workers, "workers", 2, "worker processes on this node (cluster.workers)")
	c.Flags().StringArrayVar(&join, "join", nil, "HOST:PORT of nodes already in the run (cluster.join)")
	c.Flags().StringVar(&nodes, "nodes", "1", "nodes of the run, N or MIN:MAX (cluster.nodes)")
	c.Flags().IntVar(&spares, "spares", 0, "further nodes that hold the state and take a lost one's place at once (cluster.spares)")
	c.Flags().StringVarP(&out, "out", "o", "", "the run's directory (out)")
	c.Flags().BoolVar(&otherBits, "allow-other-bits", false, "resume a checkpoint that other kernels computed (another instruction set or device)")
	c.Flags().StringVar(&resume, "resume", "auto", "auto, never, or a run or checkpoint directory (checkpoint.resume)")
	return c
}

// sets tells whether --set or the environment gives a key.
func (s *settings) sets(key string) bool {
	for _, set := range s.set {
		if name, _, _ := strings.Cut(set, "="); strings.TrimSpace(name) == key {
			return true
		}
	}
	for _, k := range config.Keys() {
		if _, given := os.LookupEnv(k.Env); given && k.Name == key {
			return true
		}
	}
	return false
}

// followConfig makes a run's own config.yaml mean that run, wherever its directory lies
// now: the file may say where it was, or be relative to another working directory.
func followConfig(file string, cfg *config.Config, stderr io.Writer) {
	dir := filepath.Dir(file)
	if filepath.Base(file) != filepath.Base(rundir.Dir("").Config()) || !exists(filepath.Join(dir, checkpoint.LockFile)) {
		return // no run's directory
	}
	said, err1 := filepath.Abs(cfg.Out)
	lies, err2 := filepath.Abs(dir)
	if err1 != nil || err2 != nil || said == lies {
		return
	}
	fmt.Fprintf(stderr, "agrdist: %s lies in a run's directory, which is used (the file says out: %s); --out DIR chooses another\n", file, cfg.Out)
	cfg.Out = dir
}

// resumeHint is the command line as the user typed it, for a shell to read.
func resumeHint(args []string) string {
	words := []string{program(args[0])}
	for _, a := range args[1:] {
		words = append(words, quoted(a))
	}
	return strings.Join(words, " ")
}

// quoted is a word as a shell reads it back.
func quoted(a string) string {
	if a == "" || strings.ContainsAny(a, " \t\n\"'`$&|;<>()[]{}*?!~#\\") {
		return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return a
}

// program is how the user started this program: as typed, or by go run, whose
// binary is gone afterwards.
func program(arg0 string) string {
	if strings.Contains(arg0, "/go-build") && strings.Contains(arg0, "/exe/") {
		return "go run ./cmd/agrdist"
	}
	return quoted(arg0)
}

// runner is one invocation of agrdist run.
type runner struct {
	cfg            *config.Config
	otherBits      bool
	command        string
	stdout, stderr io.Writer
}

func (r *runner) run(ctx context.Context) error {
	signals, ignorePipe := stopSignals()
	defer ignorePipe()
	view := newDisplay(r.stderr, r.cfg.Train.GlobalBatch)
	defer view.close()
	if failed := doctor.Blockers(ctx); len(failed) > 0 {
		f := failed[0]
		return fmt.Errorf("this machine cannot run workers: %s: %s; %s", f.Name, f.Text, f.Fix)
	}
	if text := idleWorkers(r.cfg); text != "" {
		fmt.Fprintln(view, "agrdist: "+text)
	}
	push := newTrainJob(ctx, r.cfg.Train.GlobalBatch, view, r.stderr)
	out, err := launch.Run(ctx, launch.Options{
		Config: r.cfg, AllowOtherBits: r.otherBits, Signals: signals, Terminal: isTerminal(os.Stdin) || isTerminal(r.stderr),
		Scanning: newCounter(r.stderr, "data:").phase,
		Notice:   func(text string) { fmt.Fprintln(view, "agrdist: "+text) },
		Joinable: func(addr string) {
			if !r.cfg.Cluster.Lone() && len(r.cfg.Cluster.Join) == 0 {
				fmt.Fprintf(view, "agrdist: other nodes join with --nodes %s --join %s\n", r.cfg.Cluster.Nodes, quoted(addr))
			}
		},
		Watch: func(s cluster.Status, leads bool) {
			view.update(s, leads)
			push.observe(s, leads)
		},
		Page: func(link string) { pageNotice(r.stderr, link) },
	})
	push.close(out)
	view.close()
	if err != nil {
		return err
	}
	if r.cfg.Checkpoint.Resume == "never" {
		r.command += " --resume auto"
	}
	return r.conclude(out)
}

// stopSignals are the signals that a run heeds. A reader of the output that goes away
// (SIGPIPE) does not end it: what is printed then is lost.
func stopSignals() (<-chan os.Signal, func()) {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		list = append(list, syscall.SIGHUP)
	}
	c := make(chan os.Signal, 16)
	signal.Notify(c, list...)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return c, func() {
		signal.Stop(c)
		signal.Stop(pipe)
	}
}
