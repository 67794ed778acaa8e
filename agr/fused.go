package agr

import (
	"sync/atomic"

	"github.com/agrdist/agrdist/optim"
)

// tile is the number of elements that the portable second pass carries from
// gradient to average at a time: the eight streams of Adan then take 32 KiB and
// stay in the first-level cache.
const tile = 1024

// fused is the pass in two readings of memory. The second is a work queue over
// the blocks; each goroutine that takes part has its own scratch tile.
type fused struct {
	e        optim.Elementwise
	name     string
	size     int
	config   *Config
	own      ownClip
	segments []optim.Segment
	blocks   []optim.Block
	runner   optim.Runner
	kernels  kernels
	meter    *optim.Meter
	den      []float32
	again    *remeasure // BeforeClip
	scratch  [][tile]float32

	adan *adanState // present where an assembly kernel does the second pass

	u        update // measured, not applied
	measured bool
	finite   bool
	clip     float32

	gauge *gauge                                // of movements; nil: none was asked for yet
	after func(params []float32, b optim.Block) // of Track; nil: none

	next atomic.Int64
	work func(worker int)
}

func newFused(e optim.Elementwise, a *Config, own ownClip, segments []optim.Segment, flatLen int, r optim.Runner, k kernels) *fused {
	workers := 1
	if r != nil {
		workers = max(1, r.Threads())
	}
	p := &fused{
		e: e, name: passName(e, a), size: flatLen, config: a, own: own,
		segments: segments, blocks: optim.Blocks(segments), runner: r, kernels: k,
		meter:   optim.NewMeter(segments, r, k.norms),
		den:     make([]float32, len(segments)),
		scratch: make([][tile]float32, workers),
	}
	for i := range p.den {
		p.den[i] = inf32
	}
	if a != nil && a.Order == BeforeClip {
		p.again = newRemeasure(segments, r)
	}
	if o, ok := e.(*optim.Adan); ok && k.adan != nil {
		p.adan = newAdanState(o, k.adan)
	}
	p.work = func(worker int) {
		for {
			i := int(p.next.Add(1)) - 1
			if i >= len(p.blocks) {
				return
			}
			if p.u.movement == nil {
				p.block(p.blocks[i], &p.scratch[worker])
			} else {
				p.gauge.measure(i, worker, &p.u, p.blocks[i], func() { p.block(p.blocks[i], &p.scratch[worker]) })
			}
			if p.after != nil {
				p.after(p.u.params, p.blocks[i])
			}
		}
	}
	return p
}

func (p *fused) follow(after func(params []float32, b optim.Block)) { p.after = after }

func (p *fused) Name() string        { return p.name }
func (p *fused) Slots() []optim.Slot { return p.e.Slots() }

// Kernel names what runs the passes: "go", "avx2", "avx512".
func (p *fused) Kernel() string { return p.kernels.set.String() }

// Measure implements Pass.
func (p *fused) Measure(u optim.Update) (optim.Stats, error) {
	p.u, p.measured = hostUpdate(&u, p.size), true
	norm, finite := p.meter.Measure(p.u.grads)
	p.finite = finite
	if !finite {
		return optim.Stats{GradNorm: norm}, nil
	}
	if p.config != nil {
		p.config.denominators(p.den, p.meter.L1(), p.segments)
	}
	if p.again != nil {
		norm = p.again.norm(p.u.grads, p.den)
	}
	clip := p.own.factor(norm, u.MaxGradNorm)
	p.clip = float32(clip)
	return optim.Stats{GradNorm: norm, Clip: clip, AGR: coefficient(p.config, p.den, p.meter), Finite: true}, nil
}

// Apply implements Pass.
func (p *fused) Apply() error {
	if !p.measured {
		panic(notMeasured)
	}
	if p.u.movement != nil && p.gauge == nil {
		p.gauge = newGauge(len(p.blocks), len(p.scratch), p.kernels.norms)
	}
	if p.finite {
		p.next.Store(0)
		p.e.Begin(p.u.lr, p.u.t)
		if p.adan != nil {
			p.adan.begin(&p.u, p.clip)
		}
		optim.Run(p.runner, len(p.scratch), p.work)
		if p.u.movement != nil {
			*p.u.movement = p.gauge.movement()
		}
	}
	p.u, p.measured = update{}, false
	return nil
}

// block runs the second pass over one block. What is left of it after the
// assembly kernel, less than a vector, goes the portable way.
func (p *fused) block(b optim.Block, scratch *[tile]float32) {
	den := p.den[b.Segment]
	if p.adan != nil {
		b.Lo = p.adan.run(&p.u, den, b)
	}
	for lo := b.Lo; lo < b.Hi; lo += tile {
		hi := min(lo+tile, b.Hi)
		g := scratch[:hi-lo]
		w := p.u.params[lo:hi]
		regularize(g, p.u.grads[lo:hi], den, p.clip)
		p.e.Apply(w, g, lo)
		if p.u.ema != nil {
			optim.EMA(p.u.ema[lo:hi], w, p.u.decay)
		}
	}
}
