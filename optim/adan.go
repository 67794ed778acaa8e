package optim

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// Adan is the adaptive Nesterov momentum algorithm (Xie et al., arXiv
// 2208.06677, algorithm 1; the code's betas are 1 minus the paper's). With g
// the gradient, d = g - g_prev (0 at t = 1), h the learning rate, L the weight
// decay:
//
//	m = b1 m + (1-b1) g
//	v = b2 v + (1-b2) d
//	n = b3 n + (1-b3) (g + b2 d)^2
//	D = sqrt(n)/sqrt(1-b3^t) + eps
//	s = h/(1-b1^t) m/D + h b2/(1-b2^t) v/D
//	w = (w - s)/(1 + h L)        or, with NoProx,  w = w (1 - h L) - s
//
// With MaxGradNorm, g is first scaled by min(1, MaxGradNorm/(||g|| + eps)), the
// norm taken over all segments. State: exp_avg (m), exp_avg_diff (v),
// exp_avg_sq (n) and neg_pre_grad (-g_prev), as in sail-sg/Adan.
type Adan struct {
	core
	c             Config
	m, v, n, prev []float32
	k             AdanStep
	clip          float32 // 1 but for clippedAdan
}

// AdanStep holds the scalars of one Adan update. They are float64 until here
// and rounded once.
type AdanStep struct {
	Beta1, Rest1 float32 // b1, 1-b1
	Beta2, Rest2 float32
	Beta3, Rest3 float32
	Eps          float32
	RootN        float32 // 1/sqrt(1-b3^t)
	StepM        float32 // h/(1-b1^t)
	StepV        float32 // h b2/(1-b2^t)
	// Both decays are subtracted products, w - k w, because 1 - k rounded to
	// float32 would lose most of a small k. Before: h L with NoProx, else 0;
	// After: h L/(1 + h L) without NoProx, else 0.
	DecayBefore, DecayAfter float32
	First                   bool // t = 1: d is 0
}

func newAdan(c Config, base core) Optimizer {
	n := base.size
	a := &Adan{
		core: base, c: c, clip: 1,
		m: make([]float32, n), v: make([]float32, n), n: make([]float32, n), prev: make([]float32, n),
	}
	a.bind(a.Apply)
	if c.MaxGradNorm > 0 {
		return &clippedAdan{a: a, meter: NewMeter(base.segments, base.runner, nil)}
	}
	return a
}

// Slots implements Optimizer.
func (a *Adan) Slots() []Slot {
	return []Slot{{"exp_avg", tensor.Floats(a.m)}, {"exp_avg_diff", tensor.Floats(a.v)}, {"exp_avg_sq", tensor.Floats(a.n)}, {"neg_pre_grad", tensor.Floats(a.prev)}}
}

// Scalars computes the scalars of update t.
func (a *Adan) Scalars(lr float64, t int64) AdanStep {
	c := a.c
	k := AdanStep{
		Beta1: float32(c.Beta1), Rest1: float32(1 - c.Beta1),
		Beta2: float32(c.Beta2), Rest2: float32(1 - c.Beta2),
		Beta3: float32(c.Beta3), Rest3: float32(1 - c.Beta3),
		Eps:   float32(c.Eps),
		RootN: float32(1 / math.Sqrt(biasCorrection(c.Beta3, t))),
		StepM: float32(lr / biasCorrection(c.Beta1, t)),
		StepV: float32(float64(lr*c.Beta2) / biasCorrection(c.Beta2, t)),
		First: t == 1,
	}
	decay := float64(lr * c.WeightDecay)
	if c.NoProx {
		k.DecayBefore = float32(decay)
	} else {
		k.DecayAfter = float32(decay / (1 + decay))
	}
	return k
}

// Begin implements Elementwise.
func (a *Adan) Begin(lr float64, t int64) { a.k = a.Scalars(lr, t) }

// Step implements Optimizer.
func (a *Adan) Step(params, grads []float32, lr float64, t int64) {
	a.Begin(lr, t)
	a.run(params, grads)
}

// Apply implements Elementwise.
func (a *Adan) Apply(params, grads []float32, off int) {
	k, clip := a.k, a.clip
	w := params
	gs := grads[:len(w)]
	ms := a.m[off:][:len(w)]
	vs := a.v[off:][:len(w)]
	ns := a.n[off:][:len(w)]
	ps := a.prev[off:][:len(w)]
	for i := range w {
		g := float32(gs[i] * clip)
		d := g + ps[i]
		if k.First {
			d = 0
		}
		u := g + float32(k.Beta2*d)
		m := float32(k.Beta1*ms[i]) + float32(k.Rest1*g)
		v := float32(k.Beta2*vs[i]) + float32(k.Rest2*d)
		n := float32(k.Beta3*ns[i]) + float32(float32(k.Rest3*u)*u)
		denominator := float32(sqrt32(n)*k.RootN) + k.Eps
		s := (float32(k.StepM*m) + float32(k.StepV*v)) / denominator
		x := w[i] - float32(k.DecayBefore*w[i])
		x -= s
		w[i] = x - float32(k.DecayAfter*x)
		ms[i], vs[i], ns[i], ps[i] = m, v, n, -g
	}
}

// clippedAdan is Adan with its own clipping. An element's update needs the norm
// of all, so it is not Elementwise.
type clippedAdan struct {
	a     *Adan
	meter *Meter
}

func (c *clippedAdan) Name() string  { return c.a.Name() }
func (c *clippedAdan) Slots() []Slot { return c.a.Slots() }

func (c *clippedAdan) Step(params, grads []float32, lr float64, t int64) {
	CheckLen("gradients", grads, c.a.size)
	norm, _ := c.meter.Measure(grads)
	c.a.clip = float32(min(1, c.a.c.MaxGradNorm/(norm+c.a.c.Eps)))
	c.a.Step(params, grads, lr, t)
}
