package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval/judge"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
)

// evaluation are the options of agrdist eval.
type evaluation struct {
	sampling
	ema, again, asJSON bool
	data               []string
	o                  judge.Options
}

func evalCommand() *cobra.Command {
	var e evaluation
	c := &cobra.Command{
		Use: "eval", Short: "Judge a model or images: Frechet distance, Inception Score, KID, precision, recall, held-out loss",
		Long: `Compare images with a reference: images that are generated from a run, one of its
checkpoints, a diffusers directory or a ckpt.pt of pytorch-ddpm; or those of a directory,
an .npz (uint8, N x height x width x channels) or a data set (digits, or cifar10,DIR).
A reference is a part of the data set that the model was trained on, an .npz with mu and
sigma, or images from the same places.

Features come from a small classifier of the data set's own, trained once; its
metrics carry the data set's name (digits-fd, digits-is, ...) and compare models on
that data set only. With --inception they come from the FID Inception, and the
metrics are those of the papers: fid, is, kid.

  is            Inception Score: mean and deviation over 10 splits
  fid, fd       Frechet distance of the features' mean and covariance
  kid, kd       squared MMD, polynomial kernel: mean and deviation over 100 subsets
  precision, recall (3rd neighbour), density, coverage (5th)
  sure          images that the classifier gives a class with p >= 0.9
  accuracy      images of a conditional model that it gives the class they were asked for
  heldout-loss  denoising loss on data.holdout, with its standard error

Results go to RUN/eval.jsonl with everything that defines them. A killed evaluation
continues where it stopped; one that is there already is printed again.`,
		Example: `  agrdist eval --from runs/digits
  agrdist eval --from runs/digits/checkpoints/step-600 --raw -n 1000 --steps 20
  agrdist eval --from runs/mine --inception pt_inception-2015-12-05-6726825d.pth --reference cifar10_stats.npz -n 50000
  agrdist eval --from samples/ --reference photos/ --inception pt_inception-2015-12-05-6726825d.pth
  agrdist eval --from samples.npz --data digits`,
		RunE: func(c *cobra.Command, _ []string) error { return e.run(c) },
	}
	f := c.Flags()
	f.StringVar(&e.from, "from", "", "run, checkpoint, diffusers directory, ckpt.pt; or images: directory, FILE.npz, NAME,DIR (required)")
	f.IntVarP(&e.o.Images, "count", "n", 0, "images to generate; 0: as many as the reference has, at most 50000; of images, the first n; 0: all")
	f.StringVar(&e.o.Reference, "reference", judge.Train, "train, heldout, test, an npz file with mu and sigma, or images as for --from")
	f.StringVar(&e.o.Inception, "inception", "", "weights of the FID Inception, pt_inception-2015-12-05-6726825d.pth")
	f.StringSliceVar(&e.data, "data", nil, "NAME or NAME,DIR of the data set; the run's own when not given")
	f.Uint64Var(&e.seed, "seed", 0, "seed of the images; the run's own when not given")
	f.BoolVar(&e.raw, "raw", false, "raw weights instead of their moving average")
	f.BoolVar(&e.ema, "ema", false, "the moving average (the default where there is one)")
	f.IntVar(&e.o.Workers, "workers", 0, "processors that generate at once; 0: all; changes no result")
	f.IntVar(&e.o.Batch, "batch", 32, "images computed at a time by each")
	f.StringVar(&e.o.Device, "device", "auto", "auto, cpu or cuda; devices round differently")
	f.StringVar(&e.o.Precision, "precision", "f32", "f32 or bf16, as train.precision")
	f.StringVar(&e.sampler, "sampler", "", "ddim or ddpm; the run's own when not given")
	f.IntVar(&e.steps, "steps", 0, "sampler steps; the run's own when not given")
	f.Float64Var(&e.eta, "eta", 0, "ddim: 0 deterministic to 1 as noisy as ddpm")
	f.StringVar(&e.spacing, "spacing", "", "timesteps visited: linear, leading, trailing, quadratic, paper")
	f.StringVar(&e.clip, "clip", "", "x0 to [-1, 1]: before, after or none")
	f.Float64Var(&e.guidance, "guidance", 1, "classifier-free guidance of a conditional model; the run's own when not given")
	f.IntVar(&e.class, "class", -1, "the one class to sample of a conditional model; -1: rows of ten of each")
	f.BoolVar(&e.again, "again", false, "compute it even if RUN/eval.jsonl has the result")
	f.BoolVar(&e.asJSON, "json", false, "print the record as JSON")
	return c
}

func (e *evaluation) run(c *cobra.Command) error {
	if e.from == "" {
		return &usageError{errors.New("eval needs --from: a run, a checkpoint, a diffusers directory, or images")}
	}
	if e.o.Images < 0 || e.o.Batch < 1 || e.o.Workers < 0 {
		return &usageError{fmt.Errorf("-n %d, --batch %d and --workers %d must not be negative, and a batch has at least 1", e.o.Images, e.o.Batch, e.o.Workers)}
	}
	if e.raw && e.ema {
		return &usageError{errors.New("--raw and --ema exclude each other")}
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m, err := e.subject(ctx, c)
	if err != nil {
		return err
	}
	if m.Images != nil {
		defer func() { _ = data.Close(m.Images) }() // only read
	}
	e.o.Again, e.o.RunDir, e.o.CacheDir = e.again, runOf(e.from), cacheDir()
	bar := newEta(c.ErrOrStderr())
	e.o.Progress = bar.set
	record, fresh, err := judge.Run(ctx, m, e.o)
	bar.close()
	if ctx.Err() != nil && c.Context().Err() == nil {
		return &exitError{exitSignal, "stopped; the same command continues where it was"}
	}
	if err != nil {
		return err
	}
	return e.print(c.OutOrStdout(), record, fresh)
}

// subject opens what is judged: a model, or images.
func (e *evaluation) subject(ctx context.Context, c *cobra.Command) (*judge.Model, error) {
	_, err := rundir.Find(e.from)
	switch {
	case errors.Is(err, rundir.ErrEmpty), // a directory
		errors.Is(err, rundir.ErrFile) && filepath.Ext(e.from) == ".npz",
		errors.Is(err, rundir.ErrMissing) && (strings.Contains(e.from, ",") || e.from == data.Digits):
		return e.images(ctx, c)
	}
	return e.model(ctx, c)
}

// images opens images.
func (e *evaluation) images(ctx context.Context, c *cobra.Command) (*judge.Model, error) {
	for _, name := range []string{"raw", "ema", "seed", "sampler", "steps", "eta", "spacing", "clip", "precision"} {
		if c.Flags().Changed(name) {
			return nil, &usageError{fmt.Errorf("--%s is for models, and %s has images (no model's files are in it)", name, e.from)}
		}
	}
	named := slices.Contains([]string{judge.Train, judge.HeldOut, judge.Test}, e.o.Reference)
	if len(e.data) == 0 && (e.o.Inception == "" || named) {
		return nil, &usageError{fmt.Errorf("%s has images, and no model says what they are compared with: give --data NAME,DIR of their data set, or --inception FILE and --reference", e.from)}
	}
	set, err := judge.OpenImages(ctx, e.from)
	if err != nil {
		return nil, err
	}
	cfg := config.Default()
	e.useData(&cfg)
	return &judge.Model{Recipe: recipe.Recipe{Config: &cfg}, Images: set, Path: e.from}, nil
}

// useData puts --data in the place of the run's data set.
func (e *evaluation) useData(c *config.Config) {
	if len(e.data) > 0 {
		c.Data = config.Data{Name: e.data[0], Verify: c.Data.Verify, Corrupt: c.Data.Corrupt}
		if len(e.data) > 1 {
			c.Data.Dir = e.data[1]
		}
	}
}

// model opens a model and applies the flags.
func (e *evaluation) model(ctx context.Context, c *cobra.Command) (*judge.Model, error) {
	m, err := openModel(ctx, e.from, e.raw)
	if err != nil {
		return nil, err
	}
	if e.ema && !m.Averaged {
		return nil, &usageError{fmt.Errorf("--ema: %s has no moving average (train.ema_decay is 0, or it is a diffusers directory)", e.from)}
	}
	e.useData(m.Config)
	e.override(c, &m.Recipe)
	e.o.Seed = m.Config.Seed
	return m, nil
}

// print writes the result for a person, or as JSON.
func (e *evaluation) print(out io.Writer, r suite.Record, fresh bool) error {
	if e.asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	what := fmt.Sprintf("%d images", r.Images)
	if s := r.Sampler; s != nil {
		what = fmt.Sprintf("step %d, %s weights: %d images, %s, %d steps, seed %d", r.Step, r.Weights, r.Images, s.Method, s.Steps, r.Seed)
	}
	fmt.Fprintf(out, "%s, %s, against %s\n", r.From, what, r.Reference.Name)
	names := make([]string, 0, len(r.Metrics))
	for n := range r.Metrics {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(out, "  %-18s %s\n", n, r.Metrics[n].Format())
	}
	if r.Classifier != nil {
		fmt.Fprintf(out, "features of a classifier (digest %s) that gets %.1f %% of the images right that it was not trained on\n", r.Network.Digest, 100**r.Classifier)
	}
	switch {
	case !fresh:
		fmt.Fprintf(out, "computed %s (%s); --again computes it again\n", r.Time.Format(time.DateTime), judge.Records(e.o.RunDir))
	case e.o.RunDir != "":
		fmt.Fprintf(out, "%s, written to %s\n", roundTime(time.Duration(r.Seconds*float64(time.Second))), judge.Records(e.o.RunDir))
	}
	return nil
}

// runOf is the run that a path belongs to: itself, or that of a checkpoint; empty for
// anything else.
func runOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	for _, dir := range []string{abs, filepath.Dir(abs), filepath.Dir(filepath.Dir(abs))} {
		if _, err := os.Stat(filepath.Join(dir, "checkpoints")); err == nil {
			return dir
		}
	}
	return ""
}

// cacheDir is where classifiers and features of references are kept: the user's
// cache, or nowhere.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "agrdist")
}

// openModel reads weights and their recipe.
func openModel(ctx context.Context, from string, raw bool) (*judge.Model, error) {
	src, err := rundir.OpenWeights(ctx, from, raw)
	if err != nil {
		return nil, err
	}
	r, err := recipe.Of(src)
	if err != nil {
		return nil, err
	}
	m := &judge.Model{Recipe: *r, Weights: src.Weights(), Averaged: src.Averaged(), Path: src.Path}
	if src.Manifest != nil {
		m.Step = src.Manifest.Step
	}
	return m, nil
}

// eta shows how far a piece of work is and when it will end: a line that is written
// over on a terminal, now and then a line elsewhere.
type eta struct {
	out   io.Writer
	over  bool
	what  string
	begun time.Time
	line  time.Time
}

func newEta(out io.Writer) *eta { return &eta{out: out, over: isTerminal(out)} }

func (b *eta) set(what string, done, total, found int) {
	now := time.Now()
	if what != b.what {
		b.what, b.begun, b.line = what, now, now
		if !b.over {
			return
		}
	}
	wait := 5 * time.Second
	if b.over {
		wait = 200 * time.Millisecond
	}
	if now.Sub(b.line) < wait && done < total {
		return
	}
	b.line = now
	left := ""
	if fresh := done - found; fresh > 0 && done < total {
		left = "  ETA " + roundTime(time.Duration(float64(now.Sub(b.begun))*float64(total-done)/float64(fresh))).String()
	}
	if b.over {
		fmt.Fprintf(b.out, "\r\033[K%s %d/%d%s", what, done, total, left)
	} else if now.Sub(b.begun) >= wait {
		fmt.Fprintf(b.out, "%s %d/%d%s\n", what, done, total, left)
	}
}

func (b *eta) close() {
	if b.over {
		fmt.Fprint(b.out, "\r\033[K")
	}
}
