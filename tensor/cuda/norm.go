//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

var (
	_ tensor.GroupNormSiLU  = (*Backend)(nil)
	_ tensor.FusedGradients = (*Backend)(nil)
)

// The limits of the normalisation kernels (kernels/norm.cu).
const (
	normKeepThreads = 512
	normWideThreads = 768
	normKeepValues  = 32 // of each operand, in a thread's registers
	normSlabGroups  = 64
	normSector      = 32 // bytes that memory moves at once
	normSlabBytes   = 2 * normSector
	normFewThreads  = 128
	normManyThreads = 256
)

// slab is how a normalisation is cut: a block of threads has a sample and some
// whole groups.
type slab struct {
	groups  int // of a slab
	count   int // slabs of a sample
	threads int
	wide    int // 1 where the slab does not fit the registers
	vector  bool
}

// newSlab cuts samples of pixels x c, in groups, of a type. A slab is as narrow as
// whole sectors allow; where that is too much for the registers of a few warps,
// it is narrower, or else memory is read again.
func newSlab(op string, pixels, c, groups int, dt tensor.DType, aligned bool) slab {
	var best slab
	for i, width := range []struct{ bytes, sector int }{{normSlabBytes, normSector}, {normSector, normSector}, {normSector, 1}} {
		s := slab{vector: aligned && c%vector(dt) == 0}
		s.cut(pixels, c, groups, dt, width.bytes, width.sector)
		if i == 0 || s.wide < best.wide || s.wide == best.wide && s.threads < best.threads {
			best = s
		}
		if best.wide == 0 && best.threads <= normManyThreads {
			break
		}
	}
	if best.threads > normWideThreads {
		panic(fmt.Sprintf("cuda: %s: groups of %d channels", op, c/groups))
	}
	best.count = ceil(groups, best.groups)
	return best
}

// cut takes groups until they are so many bytes, whole sectors and whole vectors
// of each pixel.
func (s *slab) cut(pixels, c, groups int, dt tensor.DType, bytes, sector int) {
	size, v := c/groups, 1
	if s.vector {
		v = vector(dt)
	}
	s.groups = 1
	most := min(groups, normSlabGroups)
	for n := size * dt.Size(); s.groups < most && (s.groups*n < bytes || s.groups*n%sector != 0 || s.groups*size%v != 0); {
		s.groups++
	}
	if s.groups*size%v != 0 { // narrow groups that never end on a vector
		s.vector, v = false, 1
	}
	vectors := s.groups * size / v
	lanes := max(ceil(pixels, normKeepValues/v), min(pixels, ceil(normFewThreads, vectors)))
	s.threads = ceil(lanes*vectors, 32) * 32
	if !s.vector || s.threads > normKeepThreads {
		s.wide = 1
		lanes = min(lanes, max(1, normKeepThreads/vectors))
		if s.vector { // the gradient halves the vectors
			lanes = max(lanes, 2)
		}
		s.threads = ceil(lanes*vectors, 32) * 32
	}
}

// norm is a checked normalisation.
type norm struct {
	slab
	op                 string
	dt                 tensor.DType
	n, pixels, c, g    int
	affine             int // from one sample's gamma and beta to the next: 0, or c
	y, x               cu.DevicePtr
	gamma, mean, rstd  cu.DevicePtr
	drop, limit, draws uint64
	keep               float32
	seed, stream       uint64
}

func (b *Backend) newNorm(op string, y, x, gamma, mean, rstd tensor.Tensor, groups int) norm {
	same(op, y, x)
	total, c := shapes.Rows(x.Shape)
	n := x.Shape.Dim(0)
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("cuda: %s: %d channels in %d groups", op, c, groups))
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
	dt := b.activation(op, y)
	places(op, x.Shape)
	return norm{
		op: op, dt: dt, n: n, pixels: total / max(1, n), c: c, g: groups, affine: affine,
		y: b.values(op, y, dt), x: b.values(op, x, dt),
		gamma: b.f32(op, gamma), mean: b.f32(op, mean), rstd: b.f32(op, rstd),
	}
}

// cut decides on the slabs; more are other operands' addresses.
func (m *norm) cut(more ...cu.DevicePtr) {
	all := m.x | m.y
	for _, p := range more {
		all |= p
	}
	m.slab = newSlab(m.op, m.pixels, m.c, m.g, m.dt, all%16 == 0)
}

func (m *norm) grid() grid { return grid{m.n * m.count, 1} }

// dropout sets the mask behind SiLU.
func (b *Backend) normDropout(m *norm, d tensor.Dropout) {
	if d.P == 0 {
		return
	}
	limit, keep := threshold(m.op, d.P)
	want(m.op, "draws", d.Draws, tensor.Of(m.n))
	m.drop, m.limit, m.keep, m.draws = 1, uint64(limit), keep, at(b.i64(m.op, d.Draws))
	m.seed, m.stream = d.Seed, uint64(d.Stream)
}

// GroupNorm is y = gamma (x - mean) rstd + beta.
func (b *Backend) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	m := b.newNorm("GroupNorm", y, x, gamma, mean, rstd, groups)
	b.normForward(&m, 0, gamma, beta, eps)
}

// GroupNormSiLU is GroupNorm, SiLU and dropout in one pass over memory.
func (b *Backend) GroupNormSiLU(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32, drop tensor.Dropout) {
	m := b.newNorm("GroupNormSiLU", y, x, gamma, mean, rstd, groups)
	b.normDropout(&m, drop)
	b.normForward(&m, 1, gamma, beta, eps)
}

func (b *Backend) normForward(m *norm, silu int, gamma, beta tensor.Tensor, eps float32) {
	want(m.op, "beta", beta, gamma.Shape)
	m.cut()
	b.launch(b.kernels.norm[silu][m.wide].of(m.dt), m.grid(), m.threads,
		at(m.y), at(m.mean), at(m.rstd), at(m.x), at(m.gamma), at(b.f32(m.op, beta)),
		intArg(m.pixels), intArg(m.c), intArg(m.g), intArg(m.groups), f32arg(eps), boolArg(m.vector),
		m.drop, m.seed, m.stream, m.limit, f32arg(m.keep), m.draws, intArg(m.affine))
}

// GroupNormGrad gives dx, dgamma and dbeta.
func (b *Backend) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	m := b.newNorm("GroupNormGrad", dx, x, gamma, mean, rstd, groups)
	b.normBackward(&m, 0, 0, gamma.Shape, dgamma, dbeta, dx, dy, tensor.NormPlus{})
}

// GroupNormSiLUGrad is the gradient of GroupNormSiLU.
func (b *Backend) GroupNormSiLUGrad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, drop tensor.Dropout) {
	m := b.newNorm("GroupNormSiLUGrad", dx, x, gamma, mean, rstd, groups)
	want(m.op, "beta", beta, gamma.Shape)
	b.normDropout(&m, drop)
	b.normBackward(&m, 1, b.f32(m.op, beta), gamma.Shape, dgamma, dbeta, dx, dy, tensor.NormPlus{})
}

// GroupNormGradPlus is the gradient with additions and sums on the way.
func (b *Backend) GroupNormGradPlus(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, silu bool, drop tensor.Dropout, plus tensor.NormPlus) {
	m := b.newNorm("GroupNormGradPlus", dx, x, gamma, mean, rstd, groups)
	if !silu {
		b.normBackward(&m, 0, 0, gamma.Shape, dgamma, dbeta, dx, dy, plus)
		return
	}
	want(m.op, "beta", beta, gamma.Shape)
	b.normDropout(&m, drop)
	b.normBackward(&m, 1, b.f32(m.op, beta), gamma.Shape, dgamma, dbeta, dx, dy, plus)
}

// normBackward runs the gradient and sums the parts of dgamma and dbeta of the samples
// that share a gamma.
func (b *Backend) normBackward(m *norm, silu int, beta cu.DevicePtr, gamma tensor.Shape, dgamma, dbeta, dx, dy tensor.Tensor, plus tensor.NormPlus) {
	same(m.op, dx, dy)
	want(m.op, "dgamma", dgamma, gamma)
	want(m.op, "dbeta", dbeta, gamma)
	grad := b.values(m.op, dy, m.dt)
	var addends [2]cu.DevicePtr
	for i, a := range plus.Addends {
		if a.Present() {
			same(m.op, dx, a)
			addends[i] = b.values(m.op, a, m.dt)
		}
	}
	var sums cu.DevicePtr
	if plus.Sums.Present() {
		want(m.op, "sums", plus.Sums, tensor.Of(m.n, m.c))
		sums = b.f32(m.op, plus.Sums)
	}
	m.cut(grad, addends[0], addends[1])
	partial, ok := b.scratch(int64(8 * m.n * m.c))
	if !ok {
		return
	}
	b.launch(b.kernels.normGrad[silu][m.wide].of(m.dt), m.grid(), m.threads,
		at(m.y), at(partial), at(grad), at(m.x), at(m.gamma), at(beta), at(m.mean), at(m.rstd),
		intArg(m.n), intArg(m.pixels), intArg(m.c), intArg(m.g), intArg(m.groups), boolArg(m.vector),
		m.drop, m.seed, m.stream, m.limit, f32arg(m.keep), m.draws, intArg(m.affine),
		at(addends[0]), at(addends[1]), at(sums))
	share, all := m.n, m.c // so many samples in each of so many sums
	if m.affine > 0 {
		share, all = 1, m.n*m.c
	}
	b.launch(&b.kernels.normAffine, grid{ceil(all, 32), 2}, 256,
		at(b.f32(m.op, dgamma)), at(b.f32(m.op, dbeta)), at(partial), intArg(share), intArg(all))
}
