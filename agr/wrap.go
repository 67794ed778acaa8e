package agr

import "github.com/agrdist/agrdist/optim"

// Wrap returns o with AGR applied to the gradient before o sees it. Decoupled
// weight decay is untouched by AGR; an L2 penalty is added by o afterwards.
// Step transforms grads in place. Clip before the call, or measure before it
// and scale: the two commute. Clipping of o's own sees what AGR leaves; NewPass has
// the reference's order. segments are those that o was built with (nil: one
// tensor of all elements). It panics on an invalid Config.
func Wrap(o optim.Optimizer, segments []optim.Segment, r optim.Runner, c Config) optim.Optimizer {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	return &wrapped{Optimizer: o, t: transform{config: c, segments: segments, runner: r}}
}

type wrapped struct {
	optim.Optimizer
	t transform
}

// Name implements optim.Optimizer.
func (w *wrapped) Name() string { return w.Optimizer.Name() + "(agr)" }

// Step implements optim.Optimizer.
func (w *wrapped) Step(params, grads []float32, lr float64, t int64) {
	w.t.measure(grads)
	w.t.apply(grads, 1)
	w.Optimizer.Step(params, grads, lr, t)
}

// transform is AGR and a scale over a flat gradient, in place: measure, then
// apply. Its buffers are made on first use, so that nil segments can take the
// length of the first gradient.
type transform struct {
	config   Config
	off      bool // scale only
	segments []optim.Segment
	runner   optim.Runner
	kernel   func(x []float32) (l1, sq float64)

	meter  *optim.Meter
	blocks []optim.Block
	den    []float32
	g      []float32
	clip   float32
	visit  func(i int)
}

func (t *transform) prepare(n int) {
	if t.segments == nil {
		t.segments = optim.Whole(n)
	}
	t.meter = optim.NewMeter(t.segments, t.runner, t.kernel)
	t.blocks = optim.Blocks(t.segments)
	t.den = make([]float32, len(t.segments))
	t.visit = func(i int) {
		b := t.blocks[i]
		x := t.g[b.Lo:b.Hi]
		regularize(x, x, t.den[b.Segment], t.clip)
	}
}

// measure reads the gradient and sets the denominators.
func (t *transform) measure(g []float32) (norm float64, finite bool) {
	if t.meter == nil {
		t.prepare(len(g))
	}
	norm, finite = t.meter.Measure(g)
	if t.off {
		for i := range t.den {
			t.den[i] = inf32
		}
	} else {
		t.config.denominators(t.den, t.meter.L1(), t.segments)
	}
	return norm, finite
}

// apply is g = clip AGR(g) after measure(g).
func (t *transform) apply(g []float32, clip float32) {
	if t.off && clip == 1 {
		return
	}
	t.g, t.clip = g, clip
	optim.Run(t.runner, len(t.blocks), t.visit)
	t.g = nil
}
