package optim

import "github.com/agrdist/agrdist/tensor"

// AdamW is Adam with decoupled weight decay (Loshchilov & Hutter, arXiv
// 1711.05101, algorithm 2, PyTorch's form):
//
//	w = w (1 - h L)
//	m = b1 m + (1-b1) g
//	v = b2 v + (1-b2) g^2
//	w = w - h/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)
//
// State: exp_avg (m), exp_avg_sq (v).
type AdamW struct {
	core
	c    Config
	m, v []float32
	k    AdamStep
}

func newAdamW(c Config, base core) Optimizer {
	a := &AdamW{core: base, c: c, m: make([]float32, base.size), v: make([]float32, base.size)}
	a.bind(a.Apply)
	return a
}

// Slots implements Optimizer.
func (a *AdamW) Slots() []Slot {
	return []Slot{{"exp_avg", tensor.Floats(a.m)}, {"exp_avg_sq", tensor.Floats(a.v)}}
}

// Scalars computes the scalars of update t.
func (a *AdamW) Scalars(lr float64, t int64) AdamStep {
	return newAdamStep(a.c, lr, t, lr*a.c.WeightDecay)
}

// Begin implements Elementwise.
func (a *AdamW) Begin(lr float64, t int64) { a.k = a.Scalars(lr, t) }

// Step implements Optimizer.
func (a *AdamW) Step(params, grads []float32, lr float64, t int64) {
	a.Begin(lr, t)
	a.run(params, grads)
}

// Apply implements Elementwise.
func (a *AdamW) Apply(params, grads []float32, off int) {
	k := a.k
	w := params
	gs := grads[:len(w)]
	ms := a.m[off:][:len(w)]
	vs := a.v[off:][:len(w)]
	for i := range w {
		g := gs[i]
		m := float32(k.Beta1*ms[i]) + float32(k.Rest1*g)
		v := float32(k.Beta2*vs[i]) + float32(float32(k.Rest2*g)*g)
		denominator := float32(sqrt32(v)*k.Root) + k.Eps
		x := w[i] - float32(k.Decay*w[i])
		w[i] = x - float32(k.Step*m)/denominator
		ms[i], vs[i] = m, v
	}
}
