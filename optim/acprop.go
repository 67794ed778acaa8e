package optim

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// ACProp is the asynchronous centered optimizer (Zhuang et al., arXiv
// 2110.05454, algorithm 3, as in juntang-zhuang/ACProp-Optimizer, with
// decoupled decay and degeneration to SGD). The second moment is that of the
// steps before this one, and the numerator is the plain gradient:
//
//	w = w (1 - h L);  m = b1 m + (1-b1) g
//	t = 1:        w = w - h m/(1-b1)
//	t >= 2:       s = s + eps, and
//	  no rectify: w = w - h g/(sqrt(s)/sqrt(1-b2^(t-1)) + eps)
//	  N >= 5:     w = w - h r g/(sqrt(s) + eps)
//	  N < 5:      w = w - h m/(1-b1^t)
//	then          s = b2 s + (1-b2) (g - m)^2
//
// with Ninf = 2/(1-b2) - 1, N = Ninf - 2 t b2^t/(1-b2^t) and r^2 = (1-b2^t)
// (N-4)/(Ninf-4) (N-2)/N Ninf/(Ninf-2) (Liu et al., arXiv 1908.03265).
// State: exp_avg (m), exp_avg_var (s).
type ACProp struct {
	core
	c    Config
	m, s []float32
	k    ACPropStep
}

// ACPropStep holds the scalars of one ACProp update. They are float64 until
// here and rounded once.
type ACPropStep struct {
	Beta1, Rest1 float32 // b1, 1-b1
	Beta2, Rest2 float32
	Eps          float32
	Floor        float32 // added to s: eps from t = 2 on, else 0
	Root         float32 // 1/sqrt(1-b2^(t-1)) without rectification from t = 2 on, else 1
	Step         float32 // what multiplies g/D, h or h r; with Momentum h/(1-b1^t), of m
	Decay        float32 // h L
	Momentum     bool    // the step is along m, not g/D
}

func newACProp(c Config, base core) Optimizer {
	a := &ACProp{core: base, c: c, m: make([]float32, base.size), s: make([]float32, base.size)}
	a.bind(a.Apply)
	return a
}

// Slots implements Optimizer.
func (a *ACProp) Slots() []Slot {
	return []Slot{{"exp_avg", tensor.Floats(a.m)}, {"exp_avg_var", tensor.Floats(a.s)}}
}

// rectification returns r of update t, and false where the variance of the
// adaptive step is not defined (N < 5).
func rectification(beta2 float64, t int64) (r float64, ok bool) {
	limit := 2/(1-beta2) - 1
	correction := biasCorrection(beta2, t)
	n := limit - float64(2*float64(t)*powi(beta2, t))/correction
	if n < 5 {
		return 0, false
	}
	return math.Sqrt(correction * (n - 4) / (limit - 4) * (n - 2) / n * limit / (limit - 2)), true
}

// Scalars computes the scalars of update t.
func (a *ACProp) Scalars(lr float64, t int64) ACPropStep {
	c := a.c
	k := ACPropStep{
		Beta1: float32(c.Beta1), Rest1: float32(1 - c.Beta1),
		Beta2: float32(c.Beta2), Rest2: float32(1 - c.Beta2),
		Eps: float32(c.Eps), Root: 1,
		Decay: float32(lr * c.WeightDecay),
	}
	if t > 1 {
		k.Floor = k.Eps
	}
	r, defined := 1.0, t > 1
	switch {
	case t > 1 && c.Rectify:
		r, defined = rectification(c.Beta2, t)
	case t > 1:
		k.Root = float32(1 / math.Sqrt(biasCorrection(c.Beta2, t-1)))
	}
	if defined {
		k.Step = float32(lr * r)
	} else {
		k.Momentum = true
		k.Step = float32(lr / biasCorrection(c.Beta1, t))
	}
	return k
}

// Begin implements Elementwise.
func (a *ACProp) Begin(lr float64, t int64) { a.k = a.Scalars(lr, t) }

// Step implements Optimizer.
func (a *ACProp) Step(params, grads []float32, lr float64, t int64) {
	a.Begin(lr, t)
	a.run(params, grads)
}

// Apply implements Elementwise.
func (a *ACProp) Apply(params, grads []float32, off int) {
	k := a.k
	w := params
	gs := grads[:len(w)]
	ms := a.m[off:][:len(w)]
	ss := a.s[off:][:len(w)]
	for i := range w {
		g := gs[i]
		m := float32(k.Beta1*ms[i]) + float32(k.Rest1*g)
		s := ss[i] + k.Floor
		x := w[i] - float32(k.Decay*w[i])
		if k.Momentum {
			w[i] = x - float32(k.Step*m)
		} else {
			w[i] = x - float32(k.Step*g)/(float32(sqrt32(s)*k.Root)+k.Eps)
		}
		e := g - m
		ms[i] = m
		ss[i] = float32(k.Beta2*s) + float32(float32(k.Rest2*e)*e)
	}
}
