package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/compare"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/eval/judge"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// comparing are the options of agrdist compare.
type comparing struct {
	file       string
	set        []string
	vary, tune []string
	seeds      string
	spec       compare.Spec
}

func compareCommand() *cobra.Command {
	var o comparing
	c := &cobra.Command{
		Use: "compare [FILE.yaml]", Short: "Run an experiment: methods x seeds, evaluated, with paired tests and one report",
		Long: `Train and evaluate every method on every seed, and write a report with means,
intervals over seeds, paired tests (runs with one seed see the same images and
noise), effect sizes, Holm's correction and the seeds that a small effect needs.

The experiment is a YAML file or flags. With --tune, every method first gets the
values that a sweep likes best, by --select. Several runs go at once, one on each
core. Everything is resumable: the same command continues after any interruption,
and finished runs and evaluations are not repeated.

  OUT/report.md, report.html, report.csv, figures/
  OUT/runs/METHOD/seed-N   runs like any other: sample, eval, checkpoint work on them
  OUT/tune/...             the runs of the sweep`,
		Example: `  agrdist compare configs/compare-digits.yaml
  agrdist compare --vary optimizer.name=adan,adam --vary optimizer.agr=true,false \
      --tune lr.base=5e-4,1e-3,2e-3 --seeds 0..4 --set data.holdout=297 --out runs/agr`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	f := c.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration that all runs start from; none: the embedded digits recipe")
	f.StringArrayVar(&o.set, "set", nil, "set one key in all runs; may be repeated")
	f.StringArrayVar(&o.vary, "vary", nil, "KEY=V,V: a method for each value; several --vary give their product")
	f.StringArrayVar(&o.tune, "tune", nil, "KEY=V,V: choose the best value for each method")
	f.StringVar(&o.spec.Tune.By, "select", "", "metric that --tune goes by (default heldout-loss, which needs data.holdout)")
	f.Int64Var(&o.spec.Tune.Steps, "tune-steps", 0, "steps of the sweep's runs; 0: as the comparison")
	f.StringVar(&o.seeds, "seeds", "", "0..4 or 1,2,3 (default 0..4)")
	f.Int64Var(&o.spec.Steps, "steps", 0, "steps of a run; 0: the configuration's")
	f.Int64SliceVar(&o.spec.At, "at", nil, "steps to evaluate; none: the last")
	f.StringVar(&o.spec.Baseline, "baseline", "", "method that the others are tested against; none: the first")
	f.IntVarP(&o.spec.Eval.Images, "count", "n", 0, "images of an evaluation; 0: as many as the reference has")
	f.IntVar(&o.spec.Eval.Steps, "sampler-steps", 0, "sampler steps of an evaluation; 0: the configuration's")
	f.StringSliceVar(&o.spec.Eval.Weights, "weights", nil, "raw, ema or raw,ema (default raw)")
	f.StringVar(&o.spec.Eval.Reference, "reference", "", "train, heldout, test, or an npz file (default train)")
	f.StringVar(&o.spec.Eval.Inception, "inception", "", "weights of the FID Inception")
	f.IntVar(&o.spec.Parallel, "parallel", 0, "runs at once; 0: one on each core, one alone where there are GPUs")
	f.StringVarP(&o.spec.Out, "out", "o", "", "the experiment's directory")
	return c
}

func (o *comparing) run(c *cobra.Command, args []string) error {
	spec, err := o.read(args)
	if err != nil {
		return err
	}
	if spec.Out, err = filepath.Abs(spec.Out); err != nil {
		return err
	}
	plan, err := compare.NewPlan(*spec, func(file string, set []string) (*config.Config, error) {
		return setup.Load(config.Source{File: file, Set: set})
	})
	if err != nil {
		return err
	}
	parallel, err := o.parallel(spec)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lab := &laboratory{parallel: parallel, notice: c.ErrOrStderr()}
	tuning, runs := plan.Runs()
	fmt.Fprintf(c.ErrOrStderr(), "agrdist: %d runs of the sweep, %d of the comparison, %d at once, in %s\n", tuning, runs, parallel, spec.Out)
	results, err := plan.Execute(ctx, lab, compare.Options{Parallel: parallel, Progress: func(text string, done, total int, left time.Duration) {
		fmt.Fprintf(c.ErrOrStderr(), "%d/%d  %s  ETA %s\n", done, total, text, roundTime(left))
	}})
	if ctx.Err() != nil && c.Context().Err() == nil {
		return &exitError{exitSignal, "stopped; the same command continues where it was"}
	}
	if err != nil {
		return err
	}
	if err := results.Write(spec.Out); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), filepath.Join(spec.Out, compare.MarkdownFile))
	return err
}

// parallel is how many runs go at once. GPUs are all one run's.
func (o *comparing) parallel(spec *compare.Spec) (int, error) {
	if spec.Parallel > 0 {
		return spec.Parallel, nil
	}
	c, err := setup.Load(config.Source{File: spec.Base, Set: spec.Set})
	if err != nil {
		return 0, err
	}
	if setup.GPUs(c.Device) > 0 {
		return 1, nil
	}
	return runtime.GOMAXPROCS(0), nil
}

// read makes the experiment of the file and the flags: flags win.
func (o *comparing) read(args []string) (*compare.Spec, error) {
	spec := &compare.Spec{}
	if len(args) > 0 {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, &config.Error{Source: args[0], Err: err}
		}
		spec, err = compare.Parse(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, &config.Error{Source: args[0], Err: err}
		}
	}
	if len(args) > 0 && spec.Base != "" && !filepath.IsAbs(spec.Base) {
		spec.Base = filepath.Join(filepath.Dir(args[0]), spec.Base) // beside the experiment
	}
	spec.Set = append(spec.Set, o.set...)
	for _, list := range []struct {
		flags []string
		to    *compare.Grid
	}{{o.vary, &spec.Vary}, {o.tune, &spec.Tune.Keys}} {
		for _, text := range list.flags {
			axis, err := compare.ParseAxis(text)
			if err != nil {
				return nil, &usageError{err}
			}
			*list.to = append(*list.to, axis)
		}
	}
	if o.seeds != "" {
		seeds, err := compare.ParseSeeds(o.seeds)
		if err != nil {
			return nil, &usageError{err}
		}
		spec.Seeds = seeds
	}
	or(&spec.Base, o.file)
	or(&spec.Out, o.spec.Out)
	or(&spec.Steps, o.spec.Steps)
	or(&spec.Tune.By, o.spec.Tune.By)
	or(&spec.Tune.Steps, o.spec.Tune.Steps)
	or(&spec.Baseline, o.spec.Baseline)
	or(&spec.Eval.Images, o.spec.Eval.Images)
	or(&spec.Eval.Steps, o.spec.Eval.Steps)
	or(&spec.Eval.Reference, o.spec.Eval.Reference)
	or(&spec.Eval.Inception, o.spec.Eval.Inception)
	or(&spec.Parallel, o.spec.Parallel)
	if len(o.spec.At) > 0 {
		spec.At = o.spec.At
	}
	if len(o.spec.Eval.Weights) > 0 {
		spec.Eval.Weights = o.spec.Eval.Weights
	}
	if spec.Out == "" {
		return nil, &usageError{errors.New("compare needs --out DIR, or out: in its file")}
	}
	return spec, nil
}

// or sets dst where value is given.
func or[T comparable](dst *T, value T) {
	var none T
	if value != none {
		*dst = value
	}
}

// laboratory trains and judges on this node.
type laboratory struct {
	parallel int
	notice   io.Writer
}

var _ compare.Lab = (*laboratory)(nil)

// Train implements compare.Lab. A run takes its share of the cores: the number of
// workers changes no bit.
func (l *laboratory) Train(ctx context.Context, c *config.Config) (out compare.Trained, err error) {
	if setup.GPUs(c.Device) == 0 && l.parallel > 1 {
		c.Cluster.Workers, c.Train.Threads = 1, max(1, runtime.GOMAXPROCS(0)/l.parallel)
	}
	stop := make(chan os.Signal, 1)
	release := context.AfterFunc(ctx, func() { stop <- syscall.SIGTERM })
	defer release()
	o, err := launch.Run(context.WithoutCancel(ctx), launch.Options{Config: c, Signals: stop})
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if err != nil {
		return out, err
	}
	switch {
	case o.Ending == launch.Finished, o.Ending == launch.Already:
	case strings.Contains(o.Reason, "not finite"):
		return out, fmt.Errorf("%w: %s", compare.ErrDiverged, o.Reason)
	default:
		return out, fmt.Errorf("the run in %s failed: %s", c.Out, o.Reason)
	}
	dir := rundir.Dir(c.Out)
	out = compare.Trained{Digest: o.Digest, Hash: c.Hash(), Losses: make([]float64, c.Train.Steps)}
	for i := range out.Losses {
		out.Losses[i] = math.NaN()
	}
	events, err := metrics.History(dir.Events())
	if err != nil {
		return out, err
	}
	for _, e := range events {
		if e.Event == metrics.EventStep && e.Loss != nil && e.Step >= 1 && e.Step <= c.Train.Steps {
			out.Losses[e.Step-1] = *e.Loss
		}
	}
	if _, err := os.Stat(dir.Sample(c.Train.Steps)); err == nil {
		out.Sample = dir.Sample(c.Train.Steps)
	}
	return out, nil
}

// Judge implements compare.Lab.
func (l *laboratory) Judge(ctx context.Context, c *config.Config, step int64, weights string, e compare.Eval) (suite.Record, error) {
	return l.judge(ctx, c, step, weights, judge.Options{Images: e.Images, Reference: e.Reference, Inception: e.Inception}, e.Steps)
}

// Loss implements compare.Lab.
func (l *laboratory) Loss(ctx context.Context, c *config.Config, weights string) (suite.Record, error) {
	return l.judge(ctx, c, c.Train.Steps, weights, judge.Options{LossOnly: true}, 0)
}

func (l *laboratory) judge(ctx context.Context, c *config.Config, step int64, weights string, o judge.Options, steps int) (suite.Record, error) {
	m, err := openModel(ctx, rundir.Dir(c.Out).Checkpoint(step), weights == "raw")
	if err != nil {
		return suite.Record{}, err
	}
	if steps > 0 {
		m.Sampler.Steps = steps
	}
	o.Seed, o.Device, o.Precision, o.Batch = m.Config.Seed, c.Device, "f32", 32
	o.RunDir, o.CacheDir = c.Out, cacheDir()
	o.Workers = max(1, runtime.GOMAXPROCS(0)/l.parallel)
	record, _, err := judge.Run(ctx, m, o)
	return record, err
}
