package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// MatMul is alpha op(a) op(b) for matrices [rows, columns], or for each of N
// pairs [N, rows, columns]; op transposes as asked.
func (t *Tape) MatMul(a, b *Value, transA, transB bool, alpha float32) *Value {
	rank := a.shape.Rank()
	m, ka := a.shape.Dim(-2), a.shape.Dim(-1)
	if transA {
		m, ka = ka, m
	}
	kb, n := b.shape.Dim(-2), b.shape.Dim(-1)
	if transB {
		kb, n = n, kb
	}
	if b.shape.Rank() != rank || ka != kb || rank == 3 && a.shape.Dim(0) != b.shape.Dim(0) || rank > 3 {
		panic(fmt.Sprintf("autograd: MatMul of %v (transposed %v) and %v (%v)", a.shape, transA, b.shape, transB))
	}
	shape := tensor.Of(m, n)
	if rank == 3 {
		shape = tensor.Of(a.shape.Dim(0), m, n)
	}
	return t.record(&node{
		name: "matmul", in: []*Value{a, b}, out: []*Value{resultAs(a.dtype, shape)},
		kernel:   matMulKernel(transA, transB, alpha),
		backward: func(b *backward, n *node) { matMulBackward(b, n, transA, transB, alpha) },
	})
}

func matMulKernel(transA, transB bool, alpha float32) kernel {
	args := tensor.MatMulArgs{TransA: transA, TransB: transB, Alpha: alpha}
	return func(be tensor.Backend, _ *Step, out, in []*Value) { be.MatMul(out[0].t, in[0].t, in[1].t, args) }
}

// matMulBackward: with y = op(a) op(b), the gradient of op(a) is dy op(b)' and
// that of op(b) is op(a)' dy; a transposed operand gets the transpose of that.
// The second operand, usually a weight, comes first.
func matMulBackward(b *backward, n *node, transA, transB bool, alpha float32) {
	a, w, dy := n.in[0], n.in[1], b.grad(n.out[0])
	if b.wants(w) {
		dw := b.target(w)
		grad := &node{name: "matmul.grad_b", in: []*Value{b.saved(a), dy}, out: []*Value{dw}, kernel: matMulKernel(!transA, false, alpha)}
		if transB {
			grad.in, grad.kernel = []*Value{dy, b.saved(a)}, matMulKernel(true, transA, alpha)
		}
		b.contribute(grad, n.in[1:], []*Value{dw})
	}
	if b.wants(a) {
		da := b.target(a)
		grad := &node{name: "matmul.grad_a", in: []*Value{dy, b.saved(w)}, out: []*Value{da}, kernel: matMulKernel(false, !transB, alpha)}
		args := tensor.MatMulArgs{TransB: !transB, Alpha: alpha, Beta: 1}
		if transA {
			grad.in, grad.kernel = []*Value{b.saved(w), dy}, matMulKernel(transB, true, alpha)
			args = tensor.MatMulArgs{TransA: transB, TransB: true, Alpha: alpha, Beta: 1}
		}
		grad = b.addition(grad, a, func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.MatMul(out[0].t, in[0].t, in[1].t, args)
		})
		b.contribute(grad, n.in[:1], []*Value{da})
	}
}

// Softmax is softmax(scale x) over the last dimension.
func (t *Tape) Softmax(x *Value, scale float32) *Value {
	return t.record(&node{
		name: "softmax", in: []*Value{x}, out: []*Value{resultAs(x.dtype, x.shape)}, inPlace: []int{0},
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.Softmax(out[0].t, in[0].t, scale) },
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "softmax.grad", in: []*Value{b.grad(n.out[0]), n.out[0]}, out: []*Value{dx}, inPlace: []int{0},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
					be.SoftmaxGrad(out[0].t, in[0].t, in[1].t, scale)
				},
			}, n.in, []*Value{dx})
		},
	})
}

// Attention is softmax(scale q k') v for each of the heads, adjacent groups of
// C/heads channels; q, k, v and the result are [N,L,C] (Vaswani et al.,
// arXiv 1706.03762, equation 1). It is one operation where the backend
// implements tensor.Attention, the composition elsewhere.
func (t *Tape) Attention(q, k, v *Value, heads int, scale float32) *Value {
	if q.shape.Rank() != 3 || heads < 1 || q.shape.Dim(2)%heads != 0 {
		panic(fmt.Sprintf("autograd: Attention of %v with %d heads", q.shape, heads))
	}
	same("Attention k", k, q.shape)
	same("Attention v", v, q.shape)
	sameType("Attention", q, k)
	sameType("Attention", q, v)
	fused, ok := t.be.(tensor.Attention)
	if !ok {
		return t.composeAttention(q, k, v, heads, scale)
	}
	y, lse := resultAs(q.dtype, q.shape), result(tensor.Of(q.shape.Dim(0), heads, q.shape.Dim(1)))
	return t.record(&node{
		name: "attention", in: []*Value{q, k, v}, out: []*Value{y, lse},
		kernel: func(_ tensor.Backend, _ *Step, out, in []*Value) {
			fused.Attention(out[0].t, out[1].t, in[0].t, in[1].t, in[2].t, heads, scale)
		},
		backward: func(b *backward, n *node) {
			grad := &node{
				name: "attention.grad",
				in:   []*Value{b.grad(n.out[0]), n.out[0], n.out[1], b.saved(n.in[0]), b.saved(n.in[1]), b.saved(n.in[2])},
				kernel: func(_ tensor.Backend, _ *Step, out, in []*Value) {
					fused.AttentionGrad(out[0].t, out[1].t, out[2].t,
						in[0].t, in[1].t, in[2].t, in[3].t, in[4].t, in[5].t, heads, scale)
				},
			}
			for _, x := range n.in {
				grad.out = append(grad.out, orResult(b.target(x), x))
			}
			b.contribute(grad, n.in, grad.out)
		},
	})
}

// composeAttention takes one head after the other off the front of the channels.
func (t *Tape) composeAttention(q, k, v *Value, heads int, scale float32) *Value {
	var y *Value
	for width := q.shape.Dim(2) / heads; heads > 0; heads-- {
		qh, kh, vh := q, k, v
		if heads > 1 {
			qh, q = t.Split(q, width)
			kh, k = t.Split(k, width)
			vh, v = t.Split(v, width)
		}
		p := t.Softmax(t.MatMul(qh, kh, false, true, 1), scale)
		yh := t.MatMul(p, vh, false, false, 1)
		if y == nil {
			y = yh
		} else {
			y = t.Concat(y, yh)
		}
	}
	return y
}
