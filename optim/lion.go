package optim

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

	step, decay float32
}

func newLion(c Config, base core) Optimizer {
	l := &Lion{core: base, c: c, m: make([]float32, base.size)}
	l.bind(l.Apply)
	return l
}

// Slots implements Optimizer.
func (l *Lion) Slots() []Slot { return []Slot{{"exp_avg", l.m}} }

// Begin implements Elementwise.
func (l *Lion) Begin(lr float64, _ int64) {
	l.step, l.decay = float32(lr), float32(lr*l.c.WeightDecay)
}

// Step implements Optimizer.
func (l *Lion) Step(params, grads []float32, lr float64, t int64) {
	l.Begin(lr, t)
	l.run(params, grads)
}

// Apply implements Elementwise.
func (l *Lion) Apply(params, grads []float32, off int) {
	beta1, rest1 := float32(l.c.Beta1), float32(1-l.c.Beta1)
	beta2, rest2 := float32(l.c.Beta2), float32(1-l.c.Beta2)
	w := params
	gs := grads[:len(w)]
	ms := l.m[off:][:len(w)]
	for i := range w {
		g, m := gs[i], ms[i]
		u := float32(beta1*m) + float32(rest1*g)
		x := w[i] - float32(l.decay*w[i])
		switch {
		case u > 0:
			x -= l.step
		case u < 0:
			x += l.step
		}
		w[i] = x
		ms[i] = float32(beta2*m) + float32(rest2*g)
	}
}
