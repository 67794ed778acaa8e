package compare

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/rng"
)

var rewrite = flag.Bool("rewrite", false, "write the golden report")

const experiment = `
title: A small experiment
out: OUT
set: {data.holdout: 97}
steps: 40
seeds: [0, 1, 2, 3]
at: [20, 40]
eval: {images: 100, weights: [raw, ema]}
tune: {keys: {lr.base: [1e-3, 2e-3, 4e-3]}, steps: 10}
baseline: Adam
pairs: [[Adan(AGR), Adan]]
methods:
  - {name: Adam, set: {optimizer.name: adam, optimizer.agr: false}}
  - {name: Adan, set: {optimizer.name: adan, optimizer.agr: false}}
  - {name: Adan(AGR), set: {optimizer.name: adan, optimizer.agr: true}}
  - {name: SGDM, set: {optimizer.name: sgdm, optimizer.agr: false}, tune: {lr.base: [0.1, 10]}}
`

func resolve(file string, set []string) (*config.Config, error) {
	return config.Load(config.Source{File: file, Set: set, Environ: []string{}})
}

func planOf(t *testing.T, text, out string) *Plan {
	t.Helper()
	s, err := Parse(strings.NewReader(strings.ReplaceAll(text, "OUT", out)))
	require.NoError(t, err)
	p, err := NewPlan(*s, resolve)
	require.NoError(t, err)
	return p
}

// fake is a laboratory whose numbers follow from the configuration. It remembers what
// it did, and after some work it fails.
type fake struct {
	mu    sync.Mutex
	done  map[string]int
	fuel  int // pieces of work left
	fixed time.Time
}

var errEmpty = errors.New("out of fuel")

func (f *fake) work(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done[name] > 0 {
		return nil
	}
	if f.fuel == 0 {
		return errEmpty
	}
	f.fuel--
	f.done[name]++
	return nil
}

func (f *fake) Train(_ context.Context, c *config.Config) (Trained, error) {
	if err := f.work("train " + c.Out); err != nil {
		return Trained{}, err
	}
	if c.LR.Base > 1 {
		return Trained{}, fmt.Errorf("%w: 10 steps in a row had a loss that is not finite", ErrDiverged)
	}
	out := Trained{Digest: fmt.Sprintf("%016x", noise(c, 0)), Hash: c.Hash()}
	for i := range c.Train.Steps {
		out.Losses = append(out.Losses, 1/float64(i+1))
	}
	return out, nil
}

// noise is a number that depends on the seed and, less, on the method.
func noise(c *config.Config, step int64) uint64 {
	agr := uint64(0)
	if c.Optimizer.AGR {
		agr = 1
	}
	return rng.New(c.Seed+100*uint64(len(c.Optimizer.Name))+agr, rng.StreamNoise).Uint64(uint64(step))
}

func (f *fake) Judge(_ context.Context, c *config.Config, step int64, weights string, e Eval) (suite.Record, error) {
	if err := f.work(fmt.Sprintf("judge %s %d %s", c.Out, step, weights)); err != nil {
		return suite.Record{}, err
	}
	seed := float64(c.Seed%10) / 10
	level := 10/math.Sqrt(float64(step)) + seed + float64(noise(c, step)%1000)/20000
	if c.Optimizer.Name == "adam" {
		level++
	}
	if c.Optimizer.AGR {
		level -= 0.002
	}
	spread := 0.1
	d := suite.Definition{
		Step: step, Weights: weights, Images: e.Images, Seed: c.Seed, Network: suite.Network{Name: "digits", Digest: "d"},
		Reference: suite.Reference{Name: "digits", Images: 1700, Digest: "r"}, Sampler: &suite.Sampler{Method: "ddim", Steps: 20, Clip: "before"}, Device: "cpu/go",
	}
	return suite.Record{Definition: d, ID: d.Digest(), Metrics: map[string]suite.Metric{
		"digits-fd": {Value: level}, "digits-is": {Value: 10 - level, Deviation: &spread}, "heldout-loss": {Value: level / 10, Deviation: &spread},
	}, Time: f.fixed}, nil
}

func (f *fake) Loss(_ context.Context, c *config.Config, _ string) (suite.Record, error) {
	if err := f.work("loss " + c.Out); err != nil {
		return suite.Record{}, err
	}
	return suite.Record{Metrics: map[string]suite.Metric{"heldout-loss": {Value: math.Abs(math.Log(c.LR.Base / 2.1e-3))}}}, nil
}

func lab(fuel int) *fake { return &fake{done: map[string]int{}, fuel: fuel} }

// files reads a report without its bitmaps.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"report.*", "figures/*"} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		for _, f := range list {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			name, err := filepath.Rel(dir, f)
			require.NoError(t, err)
			out[name] = string(text)
		}
	}
	return out
}

// An experiment that fails again and again in the middle, on any number of runs at
// once, repeats nothing and ends with the report of an undisturbed one.
func TestExecuteGoesOn(t *testing.T) {
	out := t.TempDir()
	p := planOf(t, experiment, out)
	whole := lab(1 << 20)
	r, err := p.Execute(context.Background(), whole, Options{Parallel: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"lr.base=2e-3"}, r.Chosen["Adan"])
	require.Equal(t, []string{"lr.base=0.1"}, r.Chosen["SGDM"], "10 diverges")
	require.NoError(t, r.Write(out))
	want := files(t, out)
	golden(t, want[MarkdownFile])
	require.Contains(t, want, "figures/loss.svg")
	require.Contains(t, want, "figures/digits-fd-raw.png")
	require.Contains(t, want, "figures/effects.svg")
	require.Len(t, strings.Split(strings.TrimSpace(want[CSVFile]), "\n"), 1+4*4*2*2*3)

	for parallel := 1; parallel <= 3; parallel++ {
		again := lab(0)
		for tries := 0; ; tries++ {
			again.fuel = 7
			r, err = p.Execute(context.Background(), again, Options{Parallel: parallel})
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errEmpty)
			require.Less(t, tries, 100)
		}
		require.Equal(t, whole.done, again.done)
		require.NoError(t, r.Write(out))
		require.Equal(t, want, files(t, out))
	}
}

func golden(t *testing.T, report string) {
	t.Helper()
	const path = "testdata/report.md"
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(report), 0o644))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(text), report)
}

// The figure of paired differences tells those of the report, in percent of the base.
func TestEffects(t *testing.T) {
	p := planOf(t, experiment, t.TempDir())
	r, err := p.Execute(context.Background(), lab(1<<20), Options{Parallel: 1})
	require.NoError(t, err)
	effects := r.effects()
	require.NotEmpty(t, effects)
	for _, e := range effects {
		metric, method, found := strings.Cut(e.name, ": ")
		require.True(t, found, e.name)
		metric, arrow, found := strings.Cut(metric, " ")
		require.True(t, found, e.name)
		require.Equal(t, higherIsBetter(metric), arrow == "↑")
		var base, difference float64
		i := slices.IndexFunc(p.Pairs, func(pair [2]string) bool { return pair[0] == method })
		require.GreaterOrEqual(t, i, 0, e.name)
		for _, seed := range p.Seeds {
			with, _ := r.value(method, seed, r.last(), r.primary(), metric)
			without, _ := r.value(p.Pairs[i][1], seed, r.last(), r.primary(), metric)
			base, difference = base+without.Value, difference+with.Value-without.Value
		}
		require.InDelta(t, 100*difference/base, e.mean, 1e-9, e.name)
		require.Positive(t, e.half)
	}
	svg, png, err := forest("title", effects)
	require.NoError(t, err)
	require.NotEmpty(t, png)
	require.Contains(t, string(svg), effects[0].name)
}

// A conditional model that hits its classes more often is the better one, and the metric
// comes last.
func TestAccuracyIsBetterHigh(t *testing.T) {
	require.True(t, better("digits-accuracy", 0.9, 0.8))
	require.False(t, better("digits-fd", 3, 2))
	r := &Results{Points: []Point{{Record: suite.Record{Metrics: map[string]suite.Metric{
		"digits-accuracy": {}, "digits-fd": {}, suite.HeldOutLoss: {}, "digits-sure": {},
	}}}}}
	require.Equal(t, []string{suite.HeldOutLoss, "digits-fd", "digits-sure", "digits-accuracy"}, r.metricsOf())
}

// Every range has some ticks, and 0 is among those around it.
func TestTicks(t *testing.T) {
	for _, r := range [][2]float64{{0.08, 0.2}, {5, 50}, {0.001, 1000}, {1, 2.5}} {
		require.GreaterOrEqual(t, len(logTicks{}.Ticks(r[0], r[1])), 3, r)
	}
	for _, reach := range []float64{0.0123, 1, 7.7, 3500} {
		ticks := evenTicks{}.Ticks(-reach, reach)
		require.True(t, slices.ContainsFunc(ticks, func(k plot.Tick) bool { return k.Value == 0 && k.Label == "0" }), ticks)
		require.Greater(t, len(ticks), 4)
		require.Less(t, len(ticks), 12)
	}
}

// A method that diverges on a seed is reported, and does not end the experiment.
func TestDiverged(t *testing.T) {
	out := t.TempDir()
	p := planOf(t, "out: OUT\nsteps: 10\nseeds: [1, 2]\nset: {lr.warmup_steps: 2}\nmethods:\n- {name: good}\n- {name: bad, set: {lr.base: 9}}\n", out)
	r, err := p.Execute(context.Background(), lab(100), Options{Parallel: 2})
	require.NoError(t, err)
	require.NoError(t, r.Write(out))
	text := files(t, out)[MarkdownFile]
	require.Contains(t, text, "bad, seed 2, diverged: ")
	require.Contains(t, text, "too few seeds")
	require.NotContains(t, text, "NaN")

	p = planOf(t, "out: OUT\nsteps: 10\nset: {lr.warmup_steps: 2, data.holdout: 297}\ntune: {keys: {lr.base: [8, 9]}}\nmethods: [{name: bad}]\n", out)
	_, err = p.Execute(context.Background(), lab(100), Options{Parallel: 2})
	require.ErrorContains(t, err, "bad diverges with every value of the sweep")
}

func TestVary(t *testing.T) {
	p := planOf(t, "out: OUT\nvary: {optimizer.name: [adan, adam], optimizer.agr: [true, false]}\n", t.TempDir())
	var names []string
	for _, m := range p.Methods {
		names = append(names, m.Name)
	}
	require.Equal(t, []string{"adan agr=true", "adan agr=false", "adam agr=true", "adam agr=false"}, names)
	require.Equal(t, "adan agr=true", p.Baseline)
	require.Equal(t, []int64{1600}, p.At)
	c, err := p.config(p.Methods[2], nil, 3, 0, "/x y")
	require.NoError(t, err)
	require.Equal(t, "adam", c.Optimizer.Name)
	require.True(t, c.Optimizer.AGR)
	require.Equal(t, uint64(3), c.Seed)
	require.Equal(t, "/x y", c.Out)
	require.Equal(t, []int64{1600}, c.Checkpoint.KeepAt)
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"out: x\nmethodss: []\n":                                                         `line 2: unknown key "methodss"; choose one of title, out, base, set, methods, vary`,
		"out: x\neval: {images: 5, step: 3}\n":                                           `unknown key "step"; choose one of images, steps, weights, reference, inception`,
		"out: x\nmethods: [{name: a}]\ntune: {by: digits-fd}\n":                          "nothing is tuned",
		"out: x\nmethods: [{name: a}]\ntune: {by: heldout, keys: {lr.base: [1, 2]}}\n":   `is "heldout"; choose heldout-loss, or a metric`,
		"out: x\nmethods: [{name: a}]\ntune: {keys: {lr.base: [1, 2]}}\n":                "set data.holdout",
		"out: x\nvary: {seed: [1, 2]}\n":                                                 "seed is set for runs; give seeds (--seeds)",
		"out: x\nmethods: [{name: a, set: {out: b}}]\n":                                  "out is set for runs",
		"out: x\nmethods: [{name: a}]\neval: {images: 1}\n":                              "eval.images (-n) is 1; a distribution needs at least 2",
		"out: x\nmethods: [{name: a}]\neval: {steps: -3}\n":                              "eval.steps (--sampler-steps) is -3",
		"out: x\nmethods: [{name: a}]\neval: {steps: 2000}\n":                            "at most diffusion.timesteps (1000)",
		"out: x\nmethods: [{name: a}]\nsteps: -1\n":                                      "steps (--steps) is -1",
		"out: x\nvary: [1]\n":                                                            "line 2",
		"out: x\nvary: {lr.base: 3}\n":                                                   "lr.base: write its values as a list",
		"out: x\nset: [a]\n":                                                             "line 2: settings are key: value",
		"out: [":                                                                         "line 1",
		"out: x\n":                                                                       "nothing to compare",
		"methods: [{name: a}]\n":                                                         "out is empty",
		"out: x\nmethods: [{name: a}, {name: A}]\n":                                      "a name of its own",
		"out: x\nmethods: [{name: a}]\nbaseline: b\n":                                    `baseline names "b"`,
		"out: x\nmethods: [{name: a}]\npairs: [[a, b]]\n":                                `pairs names "b"`,
		"out: x\nmethods: [{name: a}]\neval: {weights: [both]}\n":                        "choose raw, ema",
		"out: x\nmethods: [{name: a}]\nat: [2000]\n":                                     "at has step 2000; a run has 1600",
		"out: x\nmethods: [{name: a}]\nat: [5, 1]\n":                                     "increasing order",
		"out: x\nmethods: [{name: a}]\nseeds: [5, 5]\n":                                  "seeds has 5 twice",
		"out: x\nmethods: [{name: a, set: {optimizer.nam: adam}}]\n":                     `did you mean "optimizer.name"`,
		"out: x\nmethods: [{name: a}]\ntune: {keys: {lr.base: [1e-3, fast]}}\nseeds: []": "fast",
	} {
		s, err := Parse(strings.NewReader(text))
		if err == nil {
			_, err = NewPlan(*s, resolve)
		}
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string][]uint64{"0..3": {0, 1, 2, 3}, "7": {7}, "1,5": {1, 5}} {
		seeds, err := ParseSeeds(text)
		require.NoError(t, err)
		require.Equal(t, want, seeds)
	}
	for _, text := range []string{"", "3..1", "a", "1,,2", "0..5000", "-1", "01"} {
		_, err := ParseSeeds(text)
		require.Error(t, err, text)
	}
	_, err := ParseAxis("lr.base")
	require.ErrorContains(t, err, "key=value,value")
}

func FuzzParse(f *testing.F) {
	f.Add(experiment)
	f.Add("out: x\nvary: {a: [[1, 2], {b: c}]}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if s, err := Parse(strings.NewReader(text)); err == nil {
			_, _ = NewPlan(*s, func(string, []string) (*config.Config, error) { return nil, errEmpty })
		}
	})
}

// The experiments that come with the program can be planned as they are.
func TestShippedExperiments(t *testing.T) {
	files, err := filepath.Glob("../configs/experiments/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			require.NoError(t, err)
			defer f.Close()
			s, err := Parse(f)
			require.NoError(t, err)
			if s.Base != "" {
				s.Base = filepath.Join(filepath.Dir(file), s.Base)
			}
			p, err := NewPlan(*s, resolve)
			require.NoError(t, err)
			if s.Base != "" { // the paper's own recipes, without a sweep
				paperRows(t, p)
				return
			}
			for _, m := range p.Methods {
				require.NotEmpty(t, p.combinations(m), "a method without a sweep of its learning rate")
			}
			c, err := p.config(p.Methods[0], nil, p.Seeds[0], 0, "")
			require.NoError(t, err)
			require.Zero(t, c.Model.NumClassEmbeds, "the quickstart's recipe must not get in")
			require.Equal(t, config.Default().Diffusion, c.Diffusion)
			require.Equal(t, config.Default().LR.Schedule, c.LR.Schedule)
			require.Positive(t, c.Data.Holdout, "the sweep goes by the held-out loss")
		})
	}
}

// paperRows checks that the methods of the paper's table are its recipes.
func paperRows(t *testing.T, p *Plan) {
	t.Helper()
	recipes, err := filepath.Glob("../configs/cifar10-*.yaml")
	require.NoError(t, err)
	require.Len(t, p.Methods, len(recipes))
	for _, m := range p.Methods {
		file := "../configs/cifar10-" + slug(m.Name) + ".yaml"
		want, err := resolve(file, nil)
		require.NoError(t, err)
		c, err := p.config(m, nil, p.Seeds[0], 0, want.Out)
		require.NoError(t, err)
		require.Equal(t, string(want.YAML(false)), string(c.YAML(false)), m.Name)
		require.Equal(t, want.Sample.Steps, p.Eval.Steps)
		require.Equal(t, []string{"raw"}, p.Eval.Weights)
	}
}
