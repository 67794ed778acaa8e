package optim

import "github.com/agrdist/agrdist/tensor"

// SGDM is stochastic gradient descent with momentum as PyTorch's SGD defines
// it (Sutskever et al., ICML 2013, with the learning rate outside the buffer):
//
//	g   = g + L w
//	buf = g at t = 1, else mu buf + (1 - dampening) g
//	w   = w - h buf          or, with Nesterov,  w = w - h (g + mu buf)
//
// State: momentum_buffer (none with mu = 0, which is plain SGD).
type SGDM struct {
	core
	c   Config
	buf []float32
	k   SGDMStep
}

// SGDMStep holds the scalars of one SGDM update. They are float64 until here and
// rounded once.
type SGDMStep struct {
	Keep, Take float32 // mu, 1 - dampening; 0, 1 at t = 1
	Step       float32 // h
	Decay      float32 // L
	Momentum   float32 // mu, which multiplies buf with Nesterov
	Nesterov   bool
	Buffered   bool // there is buf: mu > 0
}

func newSGDM(c Config, base core) Optimizer {
	s := &SGDM{core: base, c: c}
	if c.Momentum > 0 {
		s.buf = make([]float32, base.size)
	}
	s.bind(s.Apply)
	return s
}

// Slots implements Optimizer.
func (s *SGDM) Slots() []Slot {
	if s.buf == nil {
		return nil
	}
	return []Slot{{"momentum_buffer", tensor.Floats(s.buf)}}
}

// Scalars computes the scalars of update t.
func (s *SGDM) Scalars(lr float64, t int64) SGDMStep {
	c := s.c
	k := SGDMStep{
		Keep: float32(c.Momentum), Take: float32(1 - c.Dampening),
		Step: float32(lr), Decay: float32(c.WeightDecay), Momentum: float32(c.Momentum),
		Nesterov: c.Nesterov, Buffered: c.Momentum > 0,
	}
	if t == 1 {
		k.Keep, k.Take = 0, 1
	}
	return k
}

// Begin implements Elementwise.
func (s *SGDM) Begin(lr float64, t int64) { s.k = s.Scalars(lr, t) }

// Step implements Optimizer.
func (s *SGDM) Step(params, grads []float32, lr float64, t int64) {
	s.Begin(lr, t)
	s.run(params, grads)
}

// Apply implements Elementwise.
func (s *SGDM) Apply(params, grads []float32, off int) {
	k := s.k
	w := params
	gs := grads[:len(w)]
	if !k.Buffered {
		for i := range w {
			w[i] -= float32(k.Step * (gs[i] + float32(k.Decay*w[i])))
		}
		return
	}
	bufs := s.buf[off:][:len(w)]
	for i := range w {
		g := gs[i] + float32(k.Decay*w[i])
		move := float32(k.Keep*bufs[i]) + float32(k.Take*g)
		bufs[i] = move
		if k.Nesterov {
			move = g + float32(k.Momentum*move)
		}
		w[i] -= float32(k.Step * move)
	}
}
