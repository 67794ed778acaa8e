package optim

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// Adam is Kingma & Ba, arXiv 1412.6980, algorithm 1, with weight decay as an
// L2 penalty (PyTorch's Adam):
//
//	g = g + L w
//	m = b1 m + (1-b1) g
//	v = b2 v + (1-b2) g^2
//	w = w - h/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)
//
// State: exp_avg (m), exp_avg_sq (v).
type Adam struct {
	core
	c    Config
	m, v []float32
	k    AdamStep
}

// AdamStep holds the scalars of one update of Adam or AdamW. They are float64
// until here and rounded once.
type AdamStep struct {
	Beta1, Rest1 float32 // b1, 1-b1
	Beta2, Rest2 float32
	Eps          float32
	Root         float32 // 1/sqrt(1-b2^t)
	Step         float32 // h/(1-b1^t)
	Decay        float32 // L (Adam), h L (AdamW)
}

// newAdamStep computes the scalars; decay is the one in which the two differ.
func newAdamStep(c Config, lr float64, t int64, decay float64) AdamStep {
	return AdamStep{
		Beta1: float32(c.Beta1), Rest1: float32(1 - c.Beta1),
		Beta2: float32(c.Beta2), Rest2: float32(1 - c.Beta2),
		Eps:   float32(c.Eps),
		Root:  float32(1 / math.Sqrt(biasCorrection(c.Beta2, t))),
		Step:  float32(lr / biasCorrection(c.Beta1, t)),
		Decay: float32(decay),
	}
}

func newAdam(c Config, base core) Optimizer {
	a := &Adam{core: base, c: c, m: make([]float32, base.size), v: make([]float32, base.size)}
	a.bind(a.Apply)
	return a
}

// Slots implements Optimizer.
func (a *Adam) Slots() []Slot {
	return []Slot{{"exp_avg", tensor.Floats(a.m)}, {"exp_avg_sq", tensor.Floats(a.v)}}
}

// Scalars computes the scalars of update t.
func (a *Adam) Scalars(lr float64, t int64) AdamStep {
	return newAdamStep(a.c, lr, t, a.c.WeightDecay)
}

// Begin implements Elementwise.
func (a *Adam) Begin(lr float64, t int64) { a.k = a.Scalars(lr, t) }

// Step implements Optimizer.
func (a *Adam) Step(params, grads []float32, lr float64, t int64) {
	a.Begin(lr, t)
	a.run(params, grads)
}

// Apply implements Elementwise.
func (a *Adam) Apply(params, grads []float32, off int) {
	k := a.k
	w := params
	gs := grads[:len(w)]
	ms := a.m[off:][:len(w)]
	vs := a.v[off:][:len(w)]
	for i := range w {
		g := gs[i] + float32(k.Decay*w[i])
		m := float32(k.Beta1*ms[i]) + float32(k.Rest1*g)
		v := float32(k.Beta2*vs[i]) + float32(float32(k.Rest2*g)*g)
		denominator := float32(sqrt32(v)*k.Root) + k.Eps
		w[i] -= float32(k.Step*m) / denominator
		ms[i], vs[i] = m, v
	}
}
