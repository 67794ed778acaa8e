package optim

import "github.com/agrdist/agrdist/tensor"

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
	k            RMSpropStep
}

// RMSpropStep holds the scalars of one RMSprop update. They are float64 until
// here and rounded once.
type RMSpropStep struct {
	Alpha, Rest float32 // a, 1-a
	Eps         float32
	Step        float32 // h
	Decay       float32 // L
	Momentum    float32 // mu
	Centered    bool    // there is gbar
	Buffered    bool    // there is buf: mu > 0
}

func newRMSprop(c Config, base core) Optimizer {
	r := &RMSprop{core: base, c: c, v: make([]float32, base.size)}
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
	slots := []Slot{{"square_avg", tensor.Floats(r.v)}}
	if r.gbar != nil {
		slots = append(slots, Slot{"grad_avg", tensor.Floats(r.gbar)})
	}
	if r.buf != nil {
		slots = append(slots, Slot{"momentum_buffer", tensor.Floats(r.buf)})
	}
	return slots
}

// Scalars computes the scalars of an update; all updates have the same.
func (r *RMSprop) Scalars(lr float64, _ int64) RMSpropStep {
	c := r.c
	return RMSpropStep{
		Alpha: float32(c.Alpha), Rest: float32(1 - c.Alpha), Eps: float32(c.Eps),
		Step: float32(lr), Decay: float32(c.WeightDecay), Momentum: float32(c.Momentum),
		Centered: c.Centered, Buffered: c.Momentum > 0,
	}
}

// Begin implements Elementwise.
func (r *RMSprop) Begin(lr float64, t int64) { r.k = r.Scalars(lr, t) }

// Step implements Optimizer.
func (r *RMSprop) Step(params, grads []float32, lr float64, t int64) {
	r.Begin(lr, t)
	r.run(params, grads)
}

// Apply implements Elementwise.
func (r *RMSprop) Apply(params, grads []float32, off int) {
	k := r.k
	w := params
	gs := grads[:len(w)]
	vs := r.v[off:][:len(w)]
	var bars, bufs []float32
	if k.Centered {
		bars = r.gbar[off:][:len(w)]
	}
	if k.Buffered {
		bufs = r.buf[off:][:len(w)]
	}
	for i := range w {
		g := gs[i] + float32(k.Decay*w[i])
		v := float32(k.Alpha*vs[i]) + float32(float32(k.Rest*g)*g)
		vs[i] = v
		if bars != nil {
			bar := float32(k.Alpha*bars[i]) + float32(k.Rest*g)
			bars[i] = bar
			v = max(v-float32(bar*bar), 0)
		}
		move := g / (sqrt32(v) + k.Eps)
		if bufs != nil {
			move = float32(k.Momentum*bufs[i]) + move
			bufs[i] = move
		}
		w[i] -= float32(k.Step * move)
	}
}
