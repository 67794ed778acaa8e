package agr

import "github.com/agrdist/agrdist/optim"

// unfused is the pass as separate loops over memory. The norm is measured
// before AGR and the clip factor multiplied after it, which is clip-then-AGR in
// exact arithmetic and lets the fused pass round in the same places.
type unfused struct {
	o      optim.Optimizer
	name   string
	size   int
	own    ownClip
	t      transform
	again  *remeasure // BeforeClip
	runner optim.Runner

	u        update // measured, not applied
	measured bool
	finite   bool
	clip     float32
	average  func(i int)
	gauge    *gauge
	before   []float32                             // parameters, while a movement is measured
	after    func(params []float32, b optim.Block) // of Track; nil: none
}

func newUnfused(o optim.Optimizer, a *Config, own ownClip, segments []optim.Segment, flatLen int, r optim.Runner) *unfused {
	p := &unfused{
		o: o, name: passName(o, a), size: flatLen, own: own, runner: r,
		t: transform{off: a == nil, segments: segments, runner: r},
	}
	if a != nil {
		p.t.config = *a
	}
	p.t.prepare(flatLen)
	if a != nil && a.Order == BeforeClip {
		p.again = newRemeasure(p.t.segments, r)
	}
	p.average = func(i int) {
		b := p.t.blocks[i]
		optim.EMA(p.u.ema[b.Lo:b.Hi], p.u.params[b.Lo:b.Hi], p.u.decay)
	}
	return p
}

func (p *unfused) follow(after func(params []float32, b optim.Block)) { p.after = after }

func (p *unfused) Name() string        { return p.name }
func (p *unfused) Slots() []optim.Slot { return p.o.Slots() }

// Measure implements Pass.
func (p *unfused) Measure(u optim.Update) (optim.Stats, error) {
	p.u, p.measured = hostUpdate(&u, p.size), true
	norm, finite := p.t.measure(p.u.grads)
	p.finite = finite
	if !finite {
		return optim.Stats{GradNorm: norm}, nil
	}
	if p.again != nil {
		norm = p.again.norm(p.u.grads, p.t.den)
	}
	clip := p.own.factor(norm, u.MaxGradNorm)
	p.clip = float32(clip)
	stats := optim.Stats{GradNorm: norm, Clip: clip, Finite: true}
	if !p.t.off {
		stats.AGR = coefficient(&p.t.config, p.t.den, p.t.meter)
	}
	return stats, nil
}

// Apply implements Pass.
func (p *unfused) Apply() error {
	if !p.measured {
		panic(notMeasured)
	}
	if p.finite {
		if p.u.movement != nil {
			p.before = append(p.before[:0], p.u.params...)
		}
		p.t.apply(p.u.grads, p.clip)
		p.o.Step(p.u.params, p.u.grads, p.u.lr, p.u.t)
		if p.u.ema != nil {
			optim.Run(p.runner, len(p.t.blocks), p.average)
		}
		if p.after != nil {
			optim.Run(p.runner, len(p.t.blocks), func(i int) { p.after(p.u.params, p.t.blocks[i]) })
		}
		p.movement()
	}
	p.u, p.measured = update{}, false
	return nil
}

// movement measures an update that was applied, where that was asked for.
func (p *unfused) movement() {
	if p.u.movement == nil {
		return
	}
	if p.gauge == nil {
		p.gauge = newGauge(len(p.t.blocks), 1, optim.Norms)
	}
	for i, b := range p.t.blocks {
		p.gauge.sum(i, 0, p.before[b.Lo:b.Hi], &p.u, b)
	}
	*p.u.movement = p.gauge.movement()
}
