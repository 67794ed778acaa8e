package cpu

import (
	"math"

	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

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

// groupNormItem reads x twice, the second time from the cache. The moments of each
// channel are taken about its value at the first pixel, which keeps them exact
// however far from zero the channel is: that value is one of the n summed, so its
// distance d from the mean adds d^2 (n-1)/n to what it is subtracted from, and the
// rounding of the squares grows at most n-fold. Those of the channels join to those
// of a group in float64 (Chan et al. 1979).
func groupNormItem(a *normArgs, i int) {
	it := a.item(i)
	g := it.grid()
	if a.pixels > 0 {
		copy(g.A, g.X)
	}
	it.walk(g, moments)
	pixels := float64(a.pixels)
	for k := it.first; k < it.last; k++ {
		lo, hi := it.channels(k)
		sum, squares := it.column(0)[lo:hi], it.column(1)[lo:hi]
		var mean, variance float64
		for j, s := range sum {
			sum[j] = float64(g.A[lo+j]) + s/pixels // the channel's mean
			squares[j] -= s * s / pixels
			mean += sum[j]
		}
		mean /= float64(a.size)
		for j, m := range sum {
			variance += squares[j] + pixels*(m-mean)*(m-mean)
		}
		variance /= pixels * float64(a.size)
		rstd := float32(1 / math.Sqrt(max(variance, 0)+float64(a.eps)))
		a.mean[it.n*a.groups+k], a.rstd[it.n*a.groups+k] = float32(mean), rstd
		for j := lo; j < hi; j++ {
			g.A[j], g.B[j] = float32(mean), rstd*a.gamma[it.lo+j]
		}
	}
	g.C = a.beta[it.lo:it.hi]
	if a.silu {
		it.walk(g, normaliseSiLU)
	} else {
		it.walk(g, normalise)
	}
}

// groupNormGradItem reads x and dy once from memory: with u = gamma dy and the
// normalised value h, dx = rstd (u - mean(u) - h mean(u h)); the first walk leaves
// dy behind SiLU and dropout in dx and takes the sums, the second makes dx of it.
func groupNormGradItem(a *normArgs, i int) {
	it := a.item(i)
	g := it.grid()
	for j := range g.A {
		c := it.lo + j
		k := it.n*a.groups + c/a.size
		g.A[j], g.B[j] = a.mean[k], a.rstd[k]*a.gamma[c]
	}
	if a.silu {
		s := g
		s.C = a.beta[it.lo:it.hi]
		it.walk(s, gradientsSiLU)
		g.Y = g.Dst
	} else {
		it.walk(g, gradients)
	}
	count := float64(a.pixels * a.size)
	for k := it.first; k < it.last; k++ {
		lo, hi := it.channels(k)
		rstd := a.rstd[it.n*a.groups+k]
		s, sh := it.column(0), it.column(1)
		var mu, muh float64
		for j := lo; j < hi; j++ {
			sh[j] *= float64(rstd) // of dy h: dgamma
			gamma := float64(a.gamma[it.lo+j])
			mu += gamma * s[j]
			muh += gamma * sh[j]
		}
		for j := lo; j < hi; j++ {
			g.C[j], g.D[j] = rstd*rstd*float32(muh/count), rstd*float32(mu/count)
		}
	}
	it.walk(g, finish)
}
