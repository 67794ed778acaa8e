package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// sampling are the options of agrdist sample.
type sampling struct {
	from, out string
	count     int
	seed      uint64
	raw       bool
	batch     int
	workers   int
	threads   int
	device    string
	precision string
	sampler   string
	steps     int
	eta       float64
	spacing   string
	clip      string
	class     int
	guidance  float64
	trace     string
	traceAs   string
}

func sampleCommand() *cobra.Command {
	var o sampling
	c := &cobra.Command{
		Use: "sample", Short: "Sample images from a trained model: a PNG grid, a directory of PNGs, or an .npz",
		Long: `Sample images from a run, one of its checkpoints, an exported or downloaded
diffusers directory, or a ckpt.pt of w86763777/pytorch-ddpm. Image i is a function of (weights, sampler, --seed, i)
alone: the same command writes the same bytes, whatever the batch and the workers.

--out FILE.png is a grid of all images. --out DIR writes every image as a PNG named
by its index, and --out FILE.npz all of them as uint8 (arr_0, N x height x width x
channels): as many as the disk holds. These two continue where they were interrupted,
and a directory also takes more of the same images (a larger -n). A PNG of two channels
is gray with alpha, of four RGBA; of more, the channels are gray images side by side.

--trace FILE.png draws how the images of the first batch come out of noise: an
animated PNG, or with --trace-as strip a row an image.`,
		Example: `  agrdist sample --from runs/digits --out grid.png
  agrdist sample --from runs/digits/checkpoints/step-600 -n 16 --sampler ddpm --steps 1000 --out grid.png
  agrdist sample --from runs/digits -n 50000 --out samples.npz
  agrdist sample --from runs/digits -n 16 --out grid.png --trace denoising.png`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "run, checkpoint, diffusers directory or ckpt.pt of pytorch-ddpm (required)")
	f.StringVarP(&o.out, "out", "o", "", "FILE.png, FILE.npz or a new directory (required)")
	f.IntVarP(&o.count, "count", "n", 64, "images")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the images; the run's own when not given")
	f.BoolVar(&o.raw, "raw", false, "raw weights instead of their moving average")
	f.IntVar(&o.batch, "batch", 16, "images computed at a time; changes no image")
	f.IntVar(&o.workers, "workers", 0, "batches computed at once, on the CPU; 0: one on each core for small models, else 1; changes no image")
	f.IntVar(&o.threads, "threads", 0, "threads of all workers together; 0: all cores")
	f.StringVar(&o.device, "device", "auto", "auto, cpu or cuda; devices round differently")
	f.StringVar(&o.precision, "precision", "f32", "f32 or bf16, as train.precision")
	f.StringVar(&o.sampler, "sampler", "", "ddim, ddpm, dpmpp_2m or heun; the run's own when not given")
	f.IntVar(&o.steps, "steps", 0, "sampler steps; the run's own when not given")
	f.Float64Var(&o.eta, "eta", 0, "ddim: 0 deterministic to 1 as noisy as ddpm")
	f.StringVar(&o.spacing, "spacing", "", "timesteps visited: linear, leading, trailing, quadratic, paper")
	f.StringVar(&o.clip, "clip", "", "x0 to [-1, 1]: before, after or none")
	f.IntVar(&o.class, "class", -1, "the one class to sample of a conditional model; -1: rows of ten of each")
	f.Float64Var(&o.guidance, "guidance", 1, "classifier-free guidance of a conditional model; the run's own when not given")
	f.StringVar(&o.trace, "trace", "", "FILE.png: how the first batch comes out of noise")
	f.StringVar(&o.traceAs, "trace-as", "animation", "animation (APNG) or strip")
	return c
}

func (o *sampling) run(c *cobra.Command) error {
	if o.from == "" || o.out == "" {
		return &usageError{errors.New("sample needs --from DIR and --out FILE.png, FILE.npz or DIR")}
	}
	for _, n := range []struct {
		flag        string
		value, from int
	}{{"-n", o.count, 1}, {"--batch", o.batch, 1}, {"--workers", o.workers, 0}, {"--threads", o.threads, 0}} {
		if n.value < n.from {
			return &usageError{fmt.Errorf("%s is %d; it must be %d or more", n.flag, n.value, n.from)}
		}
	}
	if c.Flags().Changed("steps") && o.steps < 1 {
		return &usageError{fmt.Errorf("--steps is %d; a sampler takes 1 or more", o.steps)}
	}
	src, err := rundir.OpenWeights(c.Context(), o.from, o.raw)
	if err != nil {
		return err
	}
	made, err := recipe.Of(src)
	if err != nil {
		return err
	}
	o.override(c, made)
	if made.Config.Model.NumClassEmbeds == 0 && c.Flags().Changed("guidance") {
		return &usageError{errors.New("--guidance: the model is not conditional (model.num_class_embeds is 0)")}
	}
	if src.Kind.Foreign() && c.Flags().Changed("guidance") {
		made.Sampler.Guidance.HasNone = true // its documents do not say; the formula needs it
	}
	sampler, err := diffusion.NewSampler(made.Schedule, made.Sampler)
	if err != nil {
		return &config.Error{Source: "sampler", Err: err}
	}
	return o.draw(c, src.Weights(), made, sampler)
}

// draw samples with everything opened, into --out and --trace.
func (o *sampling) draw(c *cobra.Command, tensors []weights.Tensor, made *recipe.Recipe, sampler *diffusion.Sampler) (err error) {
	cfg, m := made.Config, made.Config.Model
	var tr *trace
	if o.trace != "" {
		if filepath.Clean(o.trace) == filepath.Clean(o.out) {
			return &usageError{fmt.Errorf("--trace and --out are both %s; give them different names", o.out)}
		}
		if tr, err = openTrace(o.trace, o.traceAs, sheet{min(o.count, o.batch), m.SampleSize, m.InChannels}, len(sampler.Timesteps())); err != nil {
			return err
		}
	}
	team, err := o.openTeam(cfg, tensors, (o.count+o.batch-1)/o.batch)
	if err != nil {
		return err
	}
	defer team.close()
	out, err := openSink(o.out, sheet{o.count, m.SampleSize, m.InChannels}, definition(tensors, made.Sampler, cfg.Seed, team.rounding))
	if err != nil {
		return err
	}
	defer out.abandon()
	if need, free := out.memory(), freeMemory(); free > 0 && need > free {
		return fmt.Errorf("%d images in one PNG take %d MiB of memory, and %d MiB are free; --out DIR or FILE.npz keeps none of them in memory", o.count, need>>20, free>>20)
	}
	if tr != nil && out.done() > 0 {
		return fmt.Errorf("--trace: %s has the first images already, and a trace draws how they are made; choose another --out", o.out)
	}
	if team.fallback != nil {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "agrdist: sampling on the CPU:", team.fallback)
	}
	if n := out.done(); n > 0 && n < o.count {
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "agrdist: %s has %d of %d images; continuing\n", o.out, n, o.count)
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	bar := newCounter(c.ErrOrStderr(), "sampling")
	err = o.generate(ctx, sampler, team, cfg.Seed, out, tr, bar)
	bar.close()
	if ctx.Err() != nil && c.Context().Err() == nil {
		return &exitError{exitSignal, "stopped; " + out.left()}
	}
	if err == nil && tr != nil {
		err = tr.write()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d images, %s, %d steps, seed %d, %s\n",
		o.out, o.count, made.Sampler.Method, len(sampler.Timesteps()), cfg.Seed, roundTime(time.Since(began)))
	return err
}

// open opens the device, whatever the run was trained on and in.
func (o *sampling) open(threads int) (*setup.Device, error) {
	switch o.device {
	case "auto", "cpu", "cuda":
	default:
		return nil, &usageError{fmt.Errorf("--device is %q; choose auto, cpu or cuda", o.device)}
	}
	if _, err := setup.Precision(o.precision); err != nil {
		return nil, &usageError{fmt.Errorf("--%w", err)}
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: o.device, Precision: o.precision, Threads: threads})
	if err != nil {
		return nil, &config.Error{Source: "--device", Err: err}
	}
	return dev, nil
}

// override puts the flags that were given in the place of the model's own settings.
func (o *sampling) override(c *cobra.Command, r *recipe.Recipe) {
	given := c.Flags().Changed
	s := &r.Sampler
	if given("seed") {
		r.Config.Seed = o.seed
	}
	if given("sampler") {
		s.Method = o.sampler
	}
	if given("steps") {
		s.Steps = o.steps
	}
	if given("eta") {
		s.Eta = o.eta
	}
	if given("spacing") {
		s.Spacing, s.StepsOffset = o.spacing, 0
	}
	if given("guidance") {
		s.Guidance.Scale = o.guidance
	}
	if given("class") && o.class >= 0 {
		s.Guidance.Only = &o.class
	}
	if given("clip") {
		s.Clip = o.clip
	}
}

// counter is a small progress line for work of one process.
type counter struct {
	out  io.Writer
	what string
	show bool
	mu   sync.Mutex // set is called by all workers
}

func newCounter(out io.Writer, what string) *counter {
	return &counter{out: out, what: what, show: drawable(out)}
}

func (c *counter) set(done, total int) {
	if c.show {
		c.mu.Lock()
		defer c.mu.Unlock()
		fmt.Fprintf(c.out, "\r%s %d/%d ", c.what, done, total)
	}
}

// phase is set for work in several parts; a total of 0 is not known yet. An empty
// text ends it.
func (c *counter) phase(what string, done, total int) {
	if what == "" {
		c.close()
		return
	}
	if !c.show || done%100 != 0 && done != total {
		return
	}
	count := fmt.Sprint(done)
	if total > 0 {
		count = fmt.Sprintf("%d/%d", done, total)
	}
	fmt.Fprintf(c.out, "\r\033[K%s %s %s ", c.what, what, count)
}

func (c *counter) close() {
	if c.show {
		fmt.Fprint(c.out, "\r\033[K")
	}
}
