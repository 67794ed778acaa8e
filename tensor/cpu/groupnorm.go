package cpu

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

var _ tensor.GroupNormSiLU = (*Backend)(nil)

// normArgs are the operands of group normalisation, with or without SiLU and
// dropout behind it. One iteration is a sample and a block of whole groups, about
// normFloats of them: it stays in the second cache between the looks at it.
type normArgs struct {
	set               kernel.Set
	y, dy, x          []float32 // y is dx in the gradient
	gamma, beta       []float32
	mean, rstd        []float32
	pixels, c, groups int
	affine            int // from one sample's gamma and beta to the next: 0, or c
	size, block       int // channels of a group, groups of an iteration
	blocks            int // iterations a sample
	eps               float32
	silu              bool
	drop              normDrop
	work              []float32 // [N, normVectors, C]
	sums              []float64 // [N, 2, C]
}

// normDrop is the dropout inside the norm's loops; draws is nil where there is
// none.
type normDrop struct {
	mask  kernel.Mask
	draws []int64
}

const (
	normFloats  = 1 << 16
	normVectors = 6 // A, B, C, D and two sums
	// dropFloats is how many elements' bits of a mask are made at a time.
	dropFloats = 1 << 13
)

func (b *Backend) newNorm(op string, y, x, gamma, mean, rstd tensor.Tensor, groups int) (a normArgs, iterations int) {
	same(op, y, x)
	total, c := shapes.Rows(x.Shape)
	n := x.Shape.Dim(0)
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("cpu: %s: %d channels in %d groups", op, c, groups))
	}
	affine := 0
	if gamma.Shape.Rank() == 2 {
		affine = c
		want(op, "gamma", gamma, tensor.Of(n, c))
	} else {
		want(op, "gamma", gamma, tensor.Of(c))
	}
	want(op, "mean", mean, tensor.Of(n, groups))
	want(op, "rstd", rstd, tensor.Of(n, groups))
	a = normArgs{
		set: b.set, y: f32(op, y), x: f32(op, x), gamma: f32(op, gamma), mean: f32(op, mean), rstd: f32(op, rstd),
		pixels: total / max(1, n), c: c, groups: groups, affine: affine, size: c / groups,
		work: b.scratch.norm.get(n * normVectors * c), sums: grow(&b.scratch.partial, n*2*c),
	}
	// Blocks begin on whole cache lines and words of a mask where groups allow it.
	step := 64 / gcd(64, a.size)
	a.block = max(1, normFloats/max(1, a.pixels*a.size*step)) * step
	a.block = min(a.block, groups)
	a.blocks = (groups + a.block - 1) / a.block
	return a, n * a.blocks
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// GroupNorm is y = gamma (x - mean) rstd + beta.
func (b *Backend) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	a, iterations := b.newNorm("GroupNorm", y, x, gamma, mean, rstd, groups)
	want("GroupNorm", "beta", beta, gamma.Shape)
	a.beta, a.eps = f32("GroupNorm", beta), eps
	b.tasks.groupNorm.run(b.pool, iterations, a)
}

// GroupNormSiLU is GroupNorm, SiLU and dropout.
func (b *Backend) GroupNormSiLU(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32, drop tensor.Dropout) {
	const op = "GroupNormSiLU"
	a, iterations := b.newNorm(op, y, x, gamma, mean, rstd, groups)
	want(op, "beta", beta, gamma.Shape)
	a.beta, a.eps, a.silu = f32(op, beta), eps, true
	inside := a.drops(op, drop)
	b.tasks.groupNorm.run(b.pool, iterations, a)
	if drop.P != 0 && !inside {
		b.Dropout(y, y, drop.Draws, drop.P, drop.Seed, drop.Stream)
	}
}

// drops sets up dropout inside the norm's loops, and says whether it can be there:
// the bits of a mask go by words of 64 elements along the rows of an item, or over
// all of them where they hang together.
func (a *normArgs) drops(op string, drop tensor.Dropout) bool {
	whole := a.blocks == 1
	cols := a.block * a.size
	if drop.P == 0 || a.c%16 != 0 || !whole && cols%64 != 0 || !whole && a.c%64 != 0 || cols > dropFloats {
		return false
	}
	n := len(a.mean) / a.groups
	a.drop.mask = newMask(op, drop.P, drop.Seed, drop.Stream)
	want(op, "draws", drop.Draws, tensor.Of(n))
	a.drop.draws = i64(op, drop.Draws)
	return true
}

// GroupNormGrad gives dx, dgamma and dbeta.
func (b *Backend) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	const op = "GroupNormGrad"
	same(op, dx, dy)
	a, iterations := b.newNorm(op, dx, x, gamma, mean, rstd, groups)
	a.dy = f32(op, dy)
	b.normGrad(op, a, iterations, dgamma, dbeta, gamma.Shape)
}

// GroupNormSiLUGrad is the gradient of GroupNormSiLU.
func (b *Backend) GroupNormSiLUGrad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, drop tensor.Dropout) {
	const op = "GroupNormSiLUGrad"
	same(op, dx, dy)
	a, iterations := b.newNorm(op, dx, x, gamma, mean, rstd, groups)
	want(op, "beta", beta, gamma.Shape)
	if !a.drops(op, drop) && drop.P != 0 {
		b.Dropout(dx, dy, drop.Draws, drop.P, drop.Seed, drop.Stream)
		dy = dx
	}
	a.dy, a.beta, a.silu = f32(op, dy), f32(op, beta), true
	b.normGrad(op, a, iterations, dgamma, dbeta, gamma.Shape)
}

// normGrad runs the gradient and sums dgamma and dbeta over the samples that share
// a gamma, in their order.
func (b *Backend) normGrad(op string, a normArgs, iterations int, dgamma, dbeta tensor.Tensor, gamma tensor.Shape) {
	want(op, "dgamma", dgamma, gamma)
	want(op, "dbeta", dbeta, gamma)
	dg, db := f32(op, dgamma), f32(op, dbeta)
	b.tasks.groupNormGrad.run(b.pool, iterations, a)
	share := len(a.sums) / (2 * a.c)
	if a.affine > 0 {
		share = 1
	}
	for i := range dg {
		first, c := i/a.c, i%a.c
		var g, s float64
		for n := first; n < first+share; n++ {
			s += a.sums[2*n*a.c+c]
			g += a.sums[(2*n+1)*a.c+c]
		}
		dg[i], db[i] = float32(g), float32(s)
	}
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
	gamma := it.ofChannels(a.gamma)
	for k := it.first; k < it.last; k++ {
		lo, hi := it.channels(k)
		sum, squares := it.column(0)[lo:hi], it.column(1)[lo:hi]
		var mean, variance float64
		for j, s := range sum {
			sum[j] = float64(g.A[lo+j]) + s/pixels // the channel's mean
			squares[j] -= float64(s*s) / pixels
			mean += sum[j]
		}
		mean /= float64(a.size)
		for j, m := range sum {
			variance += squares[j] + float64(pixels*(m-mean)*(m-mean))
		}
		variance /= pixels * float64(a.size)
		rstd := float32(1 / math.Sqrt(max(variance, 0)+float64(a.eps)))
		a.mean[it.n*a.groups+k], a.rstd[it.n*a.groups+k] = float32(mean), rstd
		for j := lo; j < hi; j++ {
			g.A[j], g.B[j] = float32(mean), rstd*gamma[j]
		}
	}
	g.C = it.ofChannels(a.beta)
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
	gammas := it.ofChannels(a.gamma)
	for j := range g.A {
		c := it.lo + j
		k := it.n*a.groups + c/a.size
		g.A[j], g.B[j] = a.mean[k], a.rstd[k]*gammas[j]
	}
	if a.silu {
		s := g
		s.C = it.ofChannels(a.beta)
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
			gamma := float64(gammas[j])
			mu += float64(gamma * s[j])
			muh += float64(gamma * sh[j])
		}
		for j := lo; j < hi; j++ {
			g.C[j], g.D[j] = rstd*rstd*float32(muh/count), rstd*float32(mu/count)
		}
	}
	it.walk(g, finish)
}
