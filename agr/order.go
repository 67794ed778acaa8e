package agr

import (
	"math"

	"github.com/agrdist/agrdist/optim"
)

// remeasure is the second reading of the gradient that BeforeClip needs: the norm of
// what AGR leaves, which is known only once every tensor's L1 norm is. Sums run over the
// blocks in order, whatever the Runner.
type remeasure struct {
	blocks []optim.Block
	runner optim.Runner
	sq     []float64

	g     []float32
	den   []float32
	visit func(i int)
}

func newRemeasure(segments []optim.Segment, r optim.Runner) *remeasure {
	m := &remeasure{blocks: optim.Blocks(segments), runner: r}
	m.sq = make([]float64, len(m.blocks))
	m.visit = func(i int) {
		b := m.blocks[i]
		var scratch [tile]float32
		var abs, squares [optim.Lanes]float64
		for lo := b.Lo; lo < b.Hi; lo += tile {
			hi := min(lo+tile, b.Hi)
			regularize(scratch[:hi-lo], m.g[lo:hi], m.den[b.Segment], 1)
			optim.AddNorms(&abs, &squares, scratch[:hi-lo])
		}
		m.sq[i] = optim.SumLanes(&squares)
	}
	return m
}

// norm is the L2 norm of AGR(g) with the denominators den, by segment.
func (m *remeasure) norm(g, den []float32) float64 {
	m.g, m.den = g, den
	optim.Run(m.runner, len(m.blocks), m.visit)
	m.g, m.den = nil, nil
	var sq float64
	for _, v := range m.sq {
		sq += v
	}
	return math.Sqrt(sq)
}
