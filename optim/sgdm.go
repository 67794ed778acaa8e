package optim

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

	keep, take, step, decay float32
	nesterov                float32 // mu with Nesterov
}

func newSGDM(c Config, base core) Optimizer {
	s := &SGDM{core: base, c: c, decay: float32(c.WeightDecay)}
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
	return []Slot{{"momentum_buffer", s.buf}}
}

// Begin implements Elementwise.
func (s *SGDM) Begin(lr float64, t int64) {
	s.step = float32(lr)
	s.keep, s.take = float32(s.c.Momentum), float32(1-s.c.Dampening)
	s.nesterov = s.keep
	if t == 1 {
		s.keep, s.take = 0, 1
	}
}

// Step implements Optimizer.
func (s *SGDM) Step(params, grads []float32, lr float64, t int64) {
	s.Begin(lr, t)
	s.run(params, grads)
}

// Apply implements Elementwise.
func (s *SGDM) Apply(params, grads []float32, off int) {
	w := params
	gs := grads[:len(w)]
	if s.buf == nil {
		for i := range w {
			w[i] -= float32(s.step * (gs[i] + float32(s.decay*w[i])))
		}
		return
	}
	bufs := s.buf[off:][:len(w)]
	for i := range w {
		g := gs[i] + float32(s.decay*w[i])
		move := float32(s.keep*bufs[i]) + float32(s.take*g)
		bufs[i] = move
		if s.c.Nesterov {
			move = g + float32(s.nesterov*move)
		}
		w[i] -= float32(s.step * move)
	}
}
