package optim

import "github.com/agrdist/agrdist/tensor"

// Lion is the evolved sign momentum (Chen et al., arXiv 2302.06675, algorithm
// 2, with the weight decay applied first as in lucidrains/lion-pytorch):
//
//	w = w (1 - h L)
//	w = w - h sign(b1 m + (1-b1) g)      sign(0) = 0
//	m = b2 m + (1-b2) g
//
// State: exp_avg (m).
type Lion struct {
	core
	c Config
	m []float32
	k LionStep
}

// LionStep holds the scalars of one Lion update. They are float64 until here and
// rounded once.
type LionStep struct {
	Beta1, Rest1 float32 // b1, 1-b1
	Beta2, Rest2 float32
	Step         float32 // h
	Decay        float32 // h L
}

func newLion(c Config, base core) Optimizer {
	l := &Lion{core: base, c: c, m: make([]float32, base.size)}
	l.bind(l.Apply)
	return l
}

// Slots implements Optimizer.
func (l *Lion) Slots() []Slot { return []Slot{{"exp_avg", tensor.Floats(l.m)}} }

// Scalars computes the scalars of an update; all updates have the same.
func (l *Lion) Scalars(lr float64, _ int64) LionStep {
	c := l.c
	return LionStep{
		Beta1: float32(c.Beta1), Rest1: float32(1 - c.Beta1),
		Beta2: float32(c.Beta2), Rest2: float32(1 - c.Beta2),
		Step: float32(lr), Decay: float32(lr * c.WeightDecay),
	}
}

// Begin implements Elementwise.
func (l *Lion) Begin(lr float64, t int64) { l.k = l.Scalars(lr, t) }

// Step implements Optimizer.
func (l *Lion) Step(params, grads []float32, lr float64, t int64) {
	l.Begin(lr, t)
	l.run(params, grads)
}

// Apply implements Elementwise.
func (l *Lion) Apply(params, grads []float32, off int) {
	k := l.k
	w := params
	gs := grads[:len(w)]
	ms := l.m[off:][:len(w)]
	for i := range w {
		g, m := gs[i], ms[i]
		u := float32(k.Beta1*m) + float32(k.Rest1*g)
		x := w[i] - float32(k.Decay*w[i])
		switch {
		case u > 0:
			x -= k.Step
		case u < 0:
			x += k.Step
		}
		w[i] = x
		ms[i] = float32(k.Beta2*m) + float32(k.Rest2*g)
	}
}
