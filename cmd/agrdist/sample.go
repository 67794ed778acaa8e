package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/internal/grid"
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
}

func sampleCommand() *cobra.Command {
	var o sampling
	c := &cobra.Command{
		Use: "sample", Short: "Draw images from a trained model into a PNG grid",
		Long: `Draw images from a run, one of its checkpoints, or an exported or downloaded
diffusers directory. Image i is a function of (weights, sampler, --seed, i)
alone: the same command writes the same bytes, whatever the batch.`,
		Example: `  agrdist sample --from runs/digits-cpu --out grid.png
  agrdist sample --from runs/digits-cpu/checkpoints/step-600 -n 16 --sampler ddpm --steps 1000 --out grid.png`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "run, checkpoint or diffusers directory (required)")
	f.StringVarP(&o.out, "out", "o", "", "PNG file to write (required)")
	f.IntVarP(&o.count, "count", "n", 64, "images")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the images; the run's own when not given")
	f.BoolVar(&o.raw, "raw", false, "raw weights instead of their moving average")
	f.IntVar(&o.batch, "batch", 16, "images computed at a time; changes no image")
	f.IntVar(&o.threads, "threads", 0, "threads; 0: all cores")
	f.StringVar(&o.device, "device", "auto", "auto, cpu or cuda; devices round differently")
	f.StringVar(&o.precision, "precision", "f32", "f32 or bf16, as train.precision")
	f.StringVar(&o.sampler, "sampler", "", "ddim, ddpm, dpmpp_2m or heun; the run's own when not given")
	f.IntVar(&o.steps, "steps", 0, "sampler steps; the run's own when not given")
	f.Float64Var(&o.eta, "eta", 0, "ddim: 0 deterministic to 1 as noisy as ddpm")
	f.StringVar(&o.spacing, "spacing", "", "timesteps visited: linear, leading, trailing, quadratic, paper")
	f.StringVar(&o.clip, "clip", "", "x0 to [-1, 1]: before, after or none")
	f.IntVar(&o.class, "class", -1, "the one class to draw of a conditional model; -1: rows of ten of each")
	f.Float64Var(&o.guidance, "guidance", 1, "classifier-free guidance of a conditional model; the run's own when not given")
	return c
}

func (o *sampling) run(c *cobra.Command) error {
	if o.from == "" || o.out == "" {
		return &usageError{errors.New("sample needs --from DIR and --out FILE.png")}
	}
	if o.count < 1 || o.batch < 1 || o.threads < 0 {
		return &usageError{fmt.Errorf("-n %d, --batch %d and --threads %d must be positive", o.count, o.batch, o.threads)}
	}
	src, err := rundir.OpenWeights(c.Context(), o.from, o.raw)
	if err != nil {
		return err
	}
	made, err := recipe.Of(src)
	if err != nil {
		return err
	}
	cfg := made.Config
	o.override(c, made)
	if src.Kind == rundir.Pipeline && c.Flags().Changed("guidance") {
		made.Sampler.Guidance.HasNone = true // its documents do not say; the formula needs it
	}
	sampler, err := diffusion.NewSampler(made.Schedule, made.Sampler)
	if err != nil {
		return &config.Error{Source: "sampler", Err: err}
	}
	dev, err := o.open()
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // nothing of it is kept
	if dev.Fallback != nil {
		_, _ = fmt.Fprintln(c.ErrOrStderr(), "agrdist: sampling on the CPU:", dev.Fallback)
	}
	model, err := setup.Model(dev.Backend, cfg)
	if err != nil {
		return err
	}
	if err := model.Load(src.Weights()); err != nil {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	began := time.Now()
	bar := newCounter(c.ErrOrStderr(), "sampling")
	images, err := setup.Generate(c.Context(), sampler, model, cfg.Seed, 0, o.count, o.batch, bar.set)
	bar.close()
	if err != nil {
		return err
	}
	m := cfg.Model
	if err := grid.WriteFile(o.out, images, o.count, m.SampleSize, m.SampleSize, m.InChannels, grid.Options{}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d images, %s, %d steps, seed %d, %s\n",
		o.out, o.count, made.Sampler.Method, len(sampler.Timesteps()), cfg.Seed, roundTime(time.Since(began)))
	return err
}

// open opens the device, whatever the run was trained on and in.
func (o *sampling) open() (*setup.Device, error) {
	switch o.device {
	case "auto", "cpu", "cuda":
	default:
		return nil, &usageError{fmt.Errorf("--device is %q; choose auto, cpu or cuda", o.device)}
	}
	if _, err := setup.Precision(o.precision); err != nil {
		return nil, &usageError{fmt.Errorf("--%w", err)}
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: o.device, Precision: o.precision, Threads: o.threads})
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
}

func newCounter(out io.Writer, what string) *counter {
	return &counter{out: out, what: what, show: drawable(out)}
}

func (c *counter) set(done, total int) {
	if c.show {
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
