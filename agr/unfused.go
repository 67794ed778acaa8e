package agr

import "github.com/agrdist/agrdist/optim"

// unfused is the pass as separate loops over memory. The norm is measured
// before AGR and the clip factor multiplied after it, which is clip-then-AGR in
// exact arithmetic and lets the fused pass round in the same places.
type unfused struct {
	o      optim.Optimizer
	name   string
	size   int
	t      transform
	runner optim.Runner

	params, ema []float32
	decay       float64
	average     func(i int)
}

func newUnfused(o optim.Optimizer, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) *unfused {
	p := &unfused{
		o: o, name: passName(o, a), size: flatLen, runner: r,
		t: transform{off: a == nil, segments: segments, runner: r},
	}
	if a != nil {
		p.t.config = *a
	}
	p.t.prepare(flatLen)
	p.average = func(i int) {
		b := p.t.blocks[i]
		optim.EMA(p.ema[b.Lo:b.Hi], p.params[b.Lo:b.Hi], p.decay)
	}
	return p
}

func (p *unfused) Name() string        { return p.name }
func (p *unfused) Slots() []optim.Slot { return p.o.Slots() }

func (p *unfused) Update(u optim.Update) optim.Stats {
	checkUpdate(&u, p.size)
	norm, finite := p.t.measure(u.Grads)
	if !finite {
		return optim.Stats{GradNorm: norm}
	}
	clip := optim.ClipScale(norm, u.MaxGradNorm)
	p.t.apply(u.Grads, float32(clip))
	p.o.Step(u.Params, u.Grads, u.LR, u.T)
	if u.EMA != nil {
		p.params, p.ema, p.decay = u.Params, u.EMA, u.EMADecay
		optim.Run(p.runner, len(p.t.blocks), p.average)
		p.params, p.ema = nil, nil
	}
	return optim.Stats{GradNorm: norm, Clip: clip, Finite: true}
}
