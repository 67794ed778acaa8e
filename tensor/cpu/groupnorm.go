package cpu

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

var _ tensor.GroupNormSiLU = (*Backend)(nil)

// normArgs are the operands of group normalisation, with or without SiLU behind
// it. One iteration is a sample and a block of whole groups, about normChannels
// wide.
type normArgs struct {
	set               kernel.Set
	y, dy, x          []float32 // y is dx in the gradient
	gamma, beta       []float32
	mean, rstd        []float32
	pixels, c, groups int
	size, block       int // channels of a group, groups of an iteration
	blocks            int // iterations a sample
	eps               float32
	silu              bool
	work              []float32 // [N, normVectors, C]
	sums              []float64 // [N, 2, C]
}

const (
	normChannels = 32
	normVectors  = 6 // A, B, C, D and two sums
)

func (b *Backend) newNorm(op string, y, x, gamma, mean, rstd tensor.Tensor, groups int) (a normArgs, iterations int) {
	same(op, y, x)
	total, c := rows(x.Shape)
	n := x.Shape.Dim(0)
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("cpu: %s: %d channels in %d groups", op, c, groups))
	}
	want(op, "gamma", gamma, tensor.Of(c))
	want(op, "mean", mean, tensor.Of(n, groups))
	want(op, "rstd", rstd, tensor.Of(n, groups))
	a = normArgs{
		set: b.set, y: f32(op, y), x: f32(op, x), gamma: f32(op, gamma), mean: f32(op, mean), rstd: f32(op, rstd),
		pixels: total / max(1, n), c: c, groups: groups, size: c / groups,
		work: b.scratch.norm.get(n * normVectors * c), sums: grow(&b.scratch.partial, n*2*c),
	}
	a.block = min(groups, (normChannels+a.size-1)/a.size)
	a.blocks = (groups + a.block - 1) / a.block
	return a, n * a.blocks
}

// GroupNorm is y = gamma (x - mean) rstd + beta.
func (b *Backend) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	a, iterations := b.newNorm("GroupNorm", y, x, gamma, mean, rstd, groups)
	want("GroupNorm", "beta", beta, gamma.Shape)
	a.beta, a.eps = f32("GroupNorm", beta), eps
	b.tasks.groupNorm.run(b.pool, iterations, a)
}

// GroupNormSiLU is GroupNorm, then SiLU in the same pass, then dropout.
func (b *Backend) GroupNormSiLU(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32, drop tensor.Dropout) {
	const op = "GroupNormSiLU"
	a, iterations := b.newNorm(op, y, x, gamma, mean, rstd, groups)
	want(op, "beta", beta, gamma.Shape)
	a.beta, a.eps, a.silu = f32(op, beta), eps, true
	b.tasks.groupNorm.run(b.pool, iterations, a)
	if drop.P != 0 {
		b.Dropout(y, y, drop.Draws, drop.P, drop.Seed, drop.Stream)
	}
}

// GroupNormGrad gives dx, dgamma and dbeta.
func (b *Backend) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	const op = "GroupNormGrad"
	same(op, dx, dy)
	a, iterations := b.newNorm(op, dx, x, gamma, mean, rstd, groups)
	a.dy = f32(op, dy)
	b.normGrad(op, a, iterations, dgamma, dbeta)
}

// GroupNormSiLUGrad is the gradient of GroupNormSiLU.
func (b *Backend) GroupNormSiLUGrad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, drop tensor.Dropout) {
	const op = "GroupNormSiLUGrad"
	same(op, dx, dy)
	a, iterations := b.newNorm(op, dx, x, gamma, mean, rstd, groups)
	want(op, "beta", beta, gamma.Shape)
	if drop.P != 0 {
		b.Dropout(dx, dy, drop.Draws, drop.P, drop.Seed, drop.Stream)
		dy = dx
	}
	a.dy, a.beta, a.silu = f32(op, dy), f32(op, beta), true
	b.normGrad(op, a, iterations, dgamma, dbeta)
}

// normGrad runs the gradient and sums dgamma and dbeta over the samples.
func (b *Backend) normGrad(op string, a normArgs, iterations int, dgamma, dbeta tensor.Tensor) {
	want(op, "dgamma", dgamma, tensor.Of(a.c))
	want(op, "dbeta", dbeta, tensor.Of(a.c))
	dg, db := f32(op, dgamma), f32(op, dbeta)
	b.tasks.groupNormGrad.run(b.pool, iterations, a)
	for c := range a.c {
		var g, s float64
		for n := range len(a.sums) / (2 * a.c) {
			s += a.sums[2*n*a.c+c]
			g += a.sums[(2*n+1)*a.c+c]
		}
		dg[c], db[c] = float32(g), float32(s)
	}
}

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

// vector is working memory for the item's channels.
func (it *normItem) vector(k int) []float32 {
	return it.work[(it.n*normVectors+k)*it.c:][it.lo:it.hi]
}

// grid is the item's part of the activations.
func (it *normItem) grid() kernel.Grid {
	at := it.n*it.pixels*it.c + it.lo
	g := kernel.Grid{
		X: it.x[at:], Dst: it.y[at:], A: it.vector(0), B: it.vector(1), C: it.vector(2), D: it.vector(3),
		Sum:  [2][]float32{it.vector(4), it.vector(5)},
		Rows: it.pixels, Cols: it.hi - it.lo, LD: it.c,
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

// What sumUp sums. A function in its place would move every Grid to the heap.
const (
	plainSums = iota
	moments
	gradients
)

// span is a group's place among the item's channels.
func (it *normItem) span(group int) (s struct{ lo, hi int }) {
	s.lo = group*it.size - it.lo
	s.hi = s.lo + it.size
	return s
}

func total(v []float64) (sum float64) {
	for _, x := range v {
		sum += x
	}
	return sum
}

// sumUp sums blocks of sumRows rows in float32 and the blocks in float64.
func (it *normItem) sumUp(g kernel.Grid, what int) {
	sums := 2
	if what == plainSums {
		sums = 1
	}
	for k := range sums {
		clear(it.column(k))
	}
	all := g.Rows
	for r := 0; r < all; r += sumRows {
		g.Rows = min(sumRows, all-r)
		switch what {
		case plainSums:
			it.set.ColSums(&g)
		case moments:
			it.set.ColMoments(&g)
		case gradients:
			it.set.ColGrads(&g)
		}
		for k := range sums {
			total := it.column(k)
			for j, v := range g.Sum[k] {
				total[j] += float64(v)
			}
		}
		if r+sumRows < all {
			g.X = g.X[sumRows*g.LD:]
			if g.Y != nil {
				g.Y = g.Y[sumRows*g.LD:]
			}
		}
	}
}

// groupNormItem takes the mean in two steps: the second corrects the rounding of
// the first.
func groupNormItem(a *normArgs, i int) {
	it := a.item(i)
	g := it.grid()
	count := float64(a.pixels * a.size)
	it.sumUp(g, plainSums)
	for k := it.first; k < it.last; k++ {
		group := it.span(k)
		rough := float32(total(it.column(0)[group.lo:group.hi]) / count)
		for j := group.lo; j < group.hi; j++ {
			g.A[j] = rough
		}
	}
	it.sumUp(g, moments)
	for k := it.first; k < it.last; k++ {
		group := it.span(k)
		shift := total(it.column(0)[group.lo:group.hi]) / count
		variance := total(it.column(1)[group.lo:group.hi])/count - shift*shift
		mean := float32(float64(g.A[group.lo]) + shift)
		rstd := float32(1 / math.Sqrt(max(variance, 0)+float64(a.eps)))
		a.mean[it.n*a.groups+k], a.rstd[it.n*a.groups+k] = mean, rstd
		for j := group.lo; j < group.hi; j++ {
			g.A[j], g.B[j] = mean, rstd*a.gamma[it.lo+j]
		}
	}
	g.C = a.beta[it.lo:it.hi]
	if a.silu {
		a.set.ColAffineSiLU(&g)
	} else {
		a.set.ColAffine(&g)
	}
}

// groupNormGradItem: with u = gamma dy and the normalised value h,
// dx = rstd (u - mean(u) - h mean(u h)).
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
		a.set.ColAffineSiLUGrad(&s)
		g.Y = g.Dst
	}
	it.sumUp(g, gradients)
	count := float64(a.pixels * a.size)
	for k := it.first; k < it.last; k++ {
		group := it.span(k)
		rstd := a.rstd[it.n*a.groups+k]
		s, sh := it.column(0), it.column(1)
		var mu, muh float64
		for j := group.lo; j < group.hi; j++ {
			sh[j] *= float64(rstd) // of dy h: dgamma
			gamma := float64(a.gamma[it.lo+j])
			mu += gamma * s[j]
			muh += gamma * sh[j]
		}
		for j := group.lo; j < group.hi; j++ {
			g.C[j], g.D[j] = rstd*rstd*float32(muh/count), rstd*float32(mu/count)
		}
	}
	a.set.ColNormGrad(&g)
}
