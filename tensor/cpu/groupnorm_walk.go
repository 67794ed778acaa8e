package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// normItem is what an iteration works on: sample n, groups [first, last), channels
// [lo, hi).
type normItem struct {
	*normArgs
	n, first, last, lo, hi int
}

func (a *normArgs) item(i int) normItem {
	it := normItem{normArgs: a, n: i / a.blocks, first: i % a.blocks * a.block}
	it.last = min(it.first+a.block, a.groups)
	it.lo, it.hi = it.first*a.size, it.last*a.size
	return it
}

// vector returns vector k of the item's channels in the working memory.
func (it *normItem) vector(k int) []float32 {
	return it.work[(normVectors*it.n+k)*it.c:][it.lo:it.hi]
}

// ofChannels is the item's part of gamma or beta.
func (it *normItem) ofChannels(v []float32) []float32 {
	return v[it.n*it.affine:][it.lo:it.hi]
}

// grid is the item's activations.
func (it *normItem) grid() kernel.Grid {
	at := it.n*it.pixels*it.c + it.lo
	g := kernel.Grid{
		X: it.x[at:], Dst: it.y[at:], A: it.vector(0), B: it.vector(1), C: it.vector(2), D: it.vector(3),
		Sum:  [2][]float32{it.vector(4), it.vector(5)},
		Rows: it.pixels, Cols: it.hi - it.lo, LD: it.c, Keep: it.drop.mask.Keep,
	}
	if it.dy != nil {
		g.Y = it.dy[at:]
	}
	return g
}

// column returns float64 sums k of the item's channels.
func (it *normItem) column(k int) []float64 {
	return it.sums[(2*it.n+k)*it.c:][it.lo:it.hi]
}

// What walk does with some rows. A function in its place would move every Grid to
// the heap.
const (
	moments = iota
	normalise
	normaliseSiLU
	gradients
	gradientsSiLU
	finish
)

// walk goes down the item's rows, at most sumRows at a time. What sums does so in
// float32, and the sums of such blocks are added in float64. Where there is
// dropout, the bits of the mask are made on the way, as many rows at a time as
// they have room for: that is a number of the shapes alone too.
func (it *normItem) walk(g kernel.Grid, what int) {
	var bits [dropFloats / 64]uint64
	sums := what == moments || what == gradients || what == gradientsSiLU
	drops := it.drop.draws != nil && (what == normaliseSiLU || what == gradientsSiLU)
	step := g.Rows
	if sums {
		step = min(step, sumRows)
		clear(it.column(0))
		clear(it.column(1))
	}
	if drops {
		step = min(step, dropFloats/g.Cols)
		g.Bits = bits[:]
	}
	for r, all := 0, g.Rows; r < all; r += step {
		g.Rows = min(step, all-r)
		if drops {
			it.mask(bits[:], r, g.Rows, g.Cols)
		}
		it.run(&g, what, drops)
		if sums {
			for k := range g.Sum {
				total := it.column(k)
				for j, v := range g.Sum[k] {
					total[j] += float64(v)
				}
			}
		}
		if r+step < all {
			g.X = g.X[step*g.LD:]
			if what != moments {
				g.Dst = g.Dst[step*g.LD:]
			}
			if g.Y != nil {
				g.Y = g.Y[step*g.LD:]
			}
		}
	}
}

func (it *normItem) run(g *kernel.Grid, what int, drops bool) {
	switch {
	case what == moments:
		it.set.ColMoments(g)
	case what == normalise:
		it.set.ColAffine(g)
	case what == normaliseSiLU && drops:
		it.set.ColAffineSiLUDrop(g)
	case what == normaliseSiLU:
		it.set.ColAffineSiLU(g)
	case what == gradients:
		it.set.ColGrads(g)
	case what == gradientsSiLU && drops:
		it.set.ColAffineSiLUGradDrop(g)
	case what == gradientsSiLU:
		it.set.ColAffineSiLUGrad(g)
	case what == finish:
		it.set.ColNormGrad(g)
	}
}

// mask makes the bits of rows [r, r+rows) of the item.
func (it *normItem) mask(bits []uint64, r, rows, cols int) {
	m := it.drop.mask
	draw := uint64(it.drop.draws[it.n])
	m.Draw = [2]uint32{uint32(draw), uint32(draw >> 32)}
	m.Block = uint32((r*it.c + it.lo) / 4)
	if cols == it.c { // the rows hang together
		it.set.MaskBits(bits, (rows*cols+63)/64, 1, 0, &m)
		return
	}
	it.set.MaskBits(bits, cols/64, rows, (it.c-cols)/4, &m)
}

// channels is a group's place among the item's channels.
func (it *normItem) channels(group int) (lo, hi int) {
	lo = group*it.size - it.lo
	return lo, lo + it.size
}
