//go:build cuda

package cuda

import (
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// The blocks of the kernels of wide heads (kernels/attention.cu).
const (
	productTile    = 64
	productThreads = 256
	scoreWarps     = 4
	// maxScoreBytes bounds the scores of wide heads that exist at one time.
	maxScoreBytes = 256 << 20
)

// matrix is one side of a product for each head of some samples: rows of the
// activations [l, c], or scores [l, l].
type matrix struct {
	ptr    cu.DevicePtr
	dt     tensor.DType
	scores bool
}

func (a *attention) rows(p cu.DevicePtr) matrix { return matrix{ptr: p, dt: a.dt} }

// wide is Attention with the scores in memory, as many samples at a time as the
// bound allows. Probabilities have the type of the activations.
func (a *attention) wide(y, lse, q, k, v cu.DevicePtr) {
	b := a.be
	per := a.samples(1)
	s, p, ok := a.room(per, 1)
	if !ok {
		return
	}
	for first := 0; first < a.n; first += per {
		n, x, l := min(per, a.n-first), a.skip(first), a.skipSums(first)
		a.product(n, s[0], a.rows(q+x), a.rows(k+x), false, true, a.scale)
		b.launch(b.kernels.attentionSoftmax.of(a.dt), a.scoreRows(n), 32*scoreWarps,
			at(p[0].ptr), at(s[0].ptr), at(lse+l), intArg(n*a.heads*a.l), intArg(a.l))
		a.product(n, a.rows(y+x), p[0], a.rows(v+x), false, false, 1)
	}
}

func (a *attention) wideGrad(dq, dk, dv, dy, lse, q, k, v cu.DevicePtr) {
	b := a.be
	per := a.samples(2)
	s, p, ok := a.room(per, 2)
	if !ok {
		return
	}
	for first := 0; first < a.n; first += per {
		n, x, l := min(per, a.n-first), a.skip(first), a.skipSums(first)
		a.product(n, s[0], a.rows(q+x), a.rows(k+x), false, true, a.scale)
		a.product(n, s[1], a.rows(dy+x), a.rows(v+x), false, true, 1)
		b.launch(b.kernels.attentionSoftmaxGrad.of(a.dt), a.scoreRows(n), 32*scoreWarps,
			at(p[0].ptr), at(p[1].ptr), at(s[0].ptr), at(s[1].ptr), at(lse+l), intArg(n*a.heads*a.l), intArg(a.l), f32arg(a.scale))
		a.product(n, a.rows(dv+x), p[0], a.rows(dy+x), true, false, 1)
		a.product(n, a.rows(dq+x), p[1], a.rows(k+x), false, false, 1)
		a.product(n, a.rows(dk+x), p[1], a.rows(q+x), true, false, 1)
	}
}

// room is the memory of n samples' scores, copies times, in F32, and of what they
// become, in the activations' type: the same memory where that is F32.
func (a *attention) room(n, copies int) (s, p [2]matrix, ok bool) {
	wide := a.scores(n)
	narrow := wide * int64(a.dt.Size()) / 4
	size := int64(copies) * wide
	if a.dt != tensor.F32 {
		size += int64(copies) * narrow
	}
	base, ok := a.be.outerScratch(size)
	for i := range s[:copies] {
		s[i] = matrix{ptr: base + cu.DevicePtr(int64(i)*wide), dt: tensor.F32, scores: true}
		p[i] = s[i]
		if a.dt != tensor.F32 {
			p[i] = matrix{ptr: base + cu.DevicePtr(int64(copies)*wide+int64(i)*narrow), dt: a.dt, scores: true}
		}
	}
	return s, p, ok
}

// product is dst = alpha op(x) op(y) for the heads of n samples.
func (a *attention) product(n int, dst, x, y matrix, transX, transY bool, alpha float32) {
	b := a.be
	if a.heads == 1 {
		b.MatMul(a.tensor(0, n, dst), a.tensor(1, n, x), a.tensor(2, n, y),
			tensor.MatMulArgs{TransA: transX, TransB: transY, Alpha: alpha})
		return
	}
	k, columns := &b.kernels.attentionScores, a.l
	if !dst.scores {
		columns = a.dim
		k = &b.kernels.attentionWeigh
		if transX {
			k = &b.kernels.attentionWeighT
		}
	}
	b.launch(k.of(a.dt), grid{ceil(a.l, productTile) * ceil(columns, productTile), n * a.heads}, productThreads,
		at(dst.ptr), at(x.ptr), at(y.ptr), intArg(a.heads), intArg(a.l), intArg(a.c), intArg(a.dim), f32arg(alpha))
}

// tensor shows a matrix to MatMul; i tells the operands of one call apart.
func (a *attention) tensor(i, n int, m matrix) tensor.Tensor {
	columns := a.c
	if m.scores {
		columns = a.l
	}
	v := &a.be.views[i]
	*v = buffer{ptr: m.ptr, dtype: m.dt, n: n * a.l * columns, be: a.be}
	return tensor.Tensor{Buf: v, Shape: tensor.Of(n, a.l, columns)}
}

// scores is the bytes of n samples' scores, a multiple of 256.
func (a *attention) scores(n int) int64 {
	return (int64(4*n)*int64(a.heads)*int64(a.l)*int64(a.l) + 255) / 256 * 256
}

// samples is how many samples' scores, copies times, are within scoreBytes and a
// grid's height; at least 1.
func (a *attention) samples(copies int64) int {
	return int(max(1, min(a.be.scoreBytes/max(1, copies*a.scores(1)), int64(maxGridY/a.heads), int64(a.n))))
}

// skip is the bytes before a sample in q, k, v, y and their gradients, skipSums in
// lse.
func (a *attention) skip(sample int) cu.DevicePtr {
	return cu.DevicePtr(sample * a.l * a.c * a.dt.Size())
}

func (a *attention) skipSums(sample int) cu.DevicePtr {
	return cu.DevicePtr(4 * sample * a.heads * a.l)
}

// scoreRows is the grid for the rows of n samples' scores.
func (a *attention) scoreRows(n int) grid { return grid{ceil(n*a.heads*a.l, scoreWarps), 1} }
