//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

var _ tensor.Attention = (*Backend)(nil)

// flashRows is how many rows a block of the kernels of narrow heads has.
const flashRows = 64

// attention is a checked attention over [n, l, c].
type attention struct {
	be                  *Backend
	n, l, c, heads, dim int
	dt                  tensor.DType
	scale               float32
	width               int // index in flashWidths, -1 for wide heads
}

func (b *Backend) newAttention(op string, q, lse tensor.Tensor, heads int, scale float32, others ...tensor.Tensor) attention {
	rank(op, "q", q, 3)
	for _, t := range others {
		same(op, t, q)
	}
	s := q.Shape
	a := attention{be: b, n: s.Dim(0), l: s.Dim(1), c: s.Dim(2), heads: heads, dt: b.activation(op, q), scale: scale, width: -1}
	if heads < 1 || a.c%heads != 0 {
		panic(fmt.Sprintf("cuda: %s: %v in %d heads", op, s, heads))
	}
	want(op, "lse", lse, tensor.Of(a.n, heads, a.l))
	a.dim = a.c / heads
	for i := len(flashWidths) - 1; i >= 0; i-- {
		if a.dim <= flashWidths[i] {
			a.width = i
		}
	}
	return a
}

// Attention is y = softmax(scale q k') v for each sample and head; lse is the
// logarithm of the sum of exp(scale q k').
func (b *Backend) Attention(y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	const op = "Attention"
	a := b.newAttention(op, q, lse, heads, scale, y, k, v)
	out, sums := b.values(op, y, a.dt), b.f32(op, lse)
	qp, kp, vp := b.values(op, q, a.dt), b.values(op, k, a.dt), b.values(op, v, a.dt)
	if a.width < 0 {
		a.wide(out, sums, qp, kp, vp)
		return
	}
	a.flash(&b.kernels.flash, out, sums, qp, kp, vp)
}

// AttentionGrad gives the gradients of q, k and v. With p the probabilities and
// dp = dy v': ds = scale p (dp - sum(dp p)), dq = ds k, dk = ds' q, dv = p' dy.
func (b *Backend) AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	const op = "AttentionGrad"
	a := b.newAttention(op, q, lse, heads, scale, dq, dk, dv, dy, y, k, v)
	dqp, dkp, dvp := b.values(op, dq, a.dt), b.values(op, dk, a.dt), b.values(op, dv, a.dt)
	grad, out, sums := b.values(op, dy, a.dt), b.values(op, y, a.dt), b.f32(op, lse)
	qp, kp, vp := b.values(op, q, a.dt), b.values(op, k, a.dt), b.values(op, v, a.dt)
	if a.width < 0 {
		a.wideGrad(dqp, dkp, dvp, grad, sums, qp, kp, vp)
		return
	}
	a.flash(&b.kernels.flashGradQ, dqp, grad, out, sums, qp, kp, vp)
	a.flash(&b.kernels.flashGradKV, dkp, dvp, grad, out, sums, qp, kp, vp)
}

// flash runs a kernel of narrow heads; its arguments end with the sizes.
func (a *attention) flash(k *[len(flashWidths)]pair, operands ...cu.DevicePtr) {
	var args [maxArguments]uint64
	n := 0
	for _, p := range operands {
		args[n] = at(p)
		n++
	}
	n += copy(args[n:], []uint64{intArg(a.l), intArg(a.c), intArg(a.heads), intArg(a.dim), f32arg(a.scale)})
	a.be.launch(k[a.width].of(a.dt), grid{a.n * a.heads * ceil(a.l, flashRows), 1}, flashRows, args[:n]...)
}
