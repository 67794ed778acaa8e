package optim

import "math"

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
	k    adamStep
}

// adamStep holds the scalars of one update of Adam or AdamW.
type adamStep struct {
	beta1, rest1, beta2, rest2 float32
	eps                        float32
	root                       float32 // 1/sqrt(1-b2^t)
	step                       float32 // h/(1-b1^t)
	decay                      float32 // L (Adam), h L (AdamW)
}

func newAdamStep(c Config, lr float64, t int64) adamStep {
	return adamStep{
		beta1: float32(c.Beta1), rest1: float32(1 - c.Beta1),
		beta2: float32(c.Beta2), rest2: float32(1 - c.Beta2),
		eps:  float32(c.Eps),
		root: float32(1 / math.Sqrt(biasCorrection(c.Beta2, t))),
		step: float32(lr / biasCorrection(c.Beta1, t)),
	}
}

func newAdam(c Config, base core) Optimizer {
	a := &Adam{core: base, c: c, m: make([]float32, base.size), v: make([]float32, base.size)}
	a.bind(a.Apply)
	return a
}

// Slots implements Optimizer.
func (a *Adam) Slots() []Slot { return []Slot{{"exp_avg", a.m}, {"exp_avg_sq", a.v}} }

// Begin implements Elementwise.
func (a *Adam) Begin(lr float64, t int64) {
	a.k = newAdamStep(a.c, lr, t)
	a.k.decay = float32(a.c.WeightDecay)
}

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
		g := gs[i] + float32(k.decay*w[i])
		m := float32(k.beta1*ms[i]) + float32(k.rest1*g)
		v := float32(k.beta2*vs[i]) + float32(float32(k.rest2*g)*g)
		denominator := float32(sqrt32(v)*k.root) + k.eps
		w[i] -= float32(k.step*m) / denominator
		ms[i], vs[i] = m, v
	}
}
