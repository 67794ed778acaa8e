package agr

import (
	"math"

	"github.com/agrdist/agrdist/optim"
)

// gauge measures how far an update moves the parameters, while the blocks of the pass
// that applies it are in the cache. Sums run over blocks in their order, whoever computed
// them, so that all ranks find the same numbers.
type gauge struct {
	norms func(x []float32) (l1, sq float64)
	by    []squares // by block
	work  []workspace
}

// squares are sums of squares over a block.
type squares struct{ update, params, ema float64 }

// workspace is one goroutine's.
type workspace struct{ before, difference [optim.BlockSize]float32 }

func newGauge(blocks, workers int, norms func(x []float32) (l1, sq float64)) *gauge {
	return &gauge{norms: norms, by: make([]squares, blocks), work: make([]workspace, workers)}
}

// measure applies block i of an update and measures it.
func (g *gauge) measure(i, worker int, u *update, b optim.Block, apply func()) {
	before := g.work[worker].before[:b.Hi-b.Lo]
	copy(before, u.params[b.Lo:b.Hi])
	apply()
	g.sum(i, worker, before, u, b)
}

// sum measures block i, whose parameters were before.
func (g *gauge) sum(i, worker int, before []float32, u *update, b optim.Block) {
	w := u.params[b.Lo:b.Hi]
	s := squares{update: g.distance(worker, w, before)}
	_, s.params = g.norms(w)
	if u.ema != nil {
		s.ema = g.distance(worker, u.ema[b.Lo:b.Hi], w)
	}
	g.by[i] = s
}

// distance is the squared L2 norm of x - y.
func (g *gauge) distance(worker int, x, y []float32) float64 {
	d := g.work[worker].difference[:len(x)]
	y = y[:len(x)]
	for i := range d {
		d[i] = x[i] - y[i]
	}
	_, sq := g.norms(d)
	return sq
}

func (g *gauge) movement() optim.Movement {
	var s squares
	for _, b := range g.by {
		s.update += b.update
		s.params += b.params
		s.ema += b.ema
	}
	return optim.Movement{Update: math.Sqrt(s.update), Params: math.Sqrt(s.params), EMA: math.Sqrt(s.ema)}
}

// coefficient is optim.Stats.AGR, from what the meter found in the one reading of the
// gradient: over a tensor the L1 norm of (1 - |g|/den) g is sum|g| - sum g^2 / den.
func coefficient(c *Config, den []float32, m *optim.Meter) float64 {
	if c == nil {
		return 0
	}
	var all, lost float64
	for i, l1 := range m.L1() {
		all += l1
		lost += m.Squares()[i] / float64(den[i])
	}
	if all == 0 {
		return 1 // AGR leaves a zero gradient as it is
	}
	return 1 - lost/all
}
