package optim

// RMSprop is Hinton's lecture 6e (2012) as PyTorch defines it: eps outside the
// root, no bias correction, weight decay as an L2 penalty.
//
//	g = g + L w
//	v = a v + (1-a) g^2
//	D = sqrt(v) + eps        or, centered (Graves, arXiv 1308.0850, eq. 40):
//	    gbar = a gbar + (1-a) g;  D = sqrt(max(v - gbar^2, 0)) + eps
//	w = w - h g/D            or, with momentum:
//	    buf = mu buf + g/D;  w = w - h buf
//
// PyTorch lacks the max and gives NaN where rounding makes the variance of a
// constant gradient negative. State: square_avg (v), grad_avg (gbar, only
// centered), momentum_buffer (buf, only with momentum).
type RMSprop struct {
	core
	c            Config
	v, gbar, buf []float32

	alpha, rest, eps, step, decay, momentum float32
}

func newRMSprop(c Config, base core) Optimizer {
	r := &RMSprop{
		core: base, c: c, v: make([]float32, base.size),
		alpha: float32(c.Alpha), rest: float32(1 - c.Alpha), eps: float32(c.Eps),
		decay: float32(c.WeightDecay), momentum: float32(c.Momentum),
	}
	if c.Centered {
		r.gbar = make([]float32, base.size)
	}
	if c.Momentum > 0 {
		r.buf = make([]float32, base.size)
	}
	r.bind(r.Apply)
	return r
}

// Slots implements Optimizer.
func (r *RMSprop) Slots() []Slot {
	slots := []Slot{{"square_avg", r.v}}
	if r.gbar != nil {
		slots = append(slots, Slot{"grad_avg", r.gbar})
	}
	if r.buf != nil {
		slots = append(slots, Slot{"momentum_buffer", r.buf})
	}
	return slots
}

// Begin implements Elementwise.
func (r *RMSprop) Begin(lr float64, _ int64) { r.step = float32(lr) }

// Step implements Optimizer.
func (r *RMSprop) Step(params, grads []float32, lr float64, t int64) {
	r.Begin(lr, t)
	r.run(params, grads)
}

// Apply implements Elementwise.
func (r *RMSprop) Apply(params, grads []float32, off int) {
	w := params
	gs := grads[:len(w)]
	vs := r.v[off:][:len(w)]
	var bars, bufs []float32
	if r.gbar != nil {
		bars = r.gbar[off:][:len(w)]
	}
	if r.buf != nil {
		bufs = r.buf[off:][:len(w)]
	}
	for i := range w {
		g := gs[i] + float32(r.decay*w[i])
		v := float32(r.alpha*vs[i]) + float32(float32(r.rest*g)*g)
		vs[i] = v
		if bars != nil {
			bar := float32(r.alpha*bars[i]) + float32(r.rest*g)
			bars[i] = bar
			v = max(v-float32(bar*bar), 0)
		}
		move := g / (sqrt32(v) + r.eps)
		if bufs != nil {
			move = float32(r.momentum*bufs[i]) + move
			bufs[i] = move
		}
		w[i] -= float32(r.step * move)
	}
}
