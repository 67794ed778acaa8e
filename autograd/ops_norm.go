package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// GroupNorm is gamma (x - mean)/sqrt(var + eps) + beta with moments over each
// sample and group of C/groups channels (Wu & He, arXiv 1803.08494): x [N,...,C],
// gamma and beta [C], or [N,C] where each sample has its own.
func (t *Tape) GroupNorm(x, gamma, beta *Value, groups int, eps float32) *Value {
	moments := checkGroupNorm(x, gamma, beta, groups)
	y, mean, rstd := resultAs(x.dtype, x.shape), result(moments), result(moments)
	return t.record(&node{
		name: "group_norm", in: []*Value{x, gamma, beta}, out: []*Value{y, mean, rstd}, inPlace: []int{0}, cheap: true,
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.GroupNorm(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, groups, eps)
		},
		backward: func(b *backward, n *node) {
			b.groupNormGrad(n, &node{
				name: "group_norm.grad",
				in:   []*Value{b.grad(n.out[0]), b.saved(n.in[0]), n.in[1], n.out[1], n.out[2]},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
					if f, ok := be.(tensor.FusedGradients); ok {
						f.GroupNormGradPlus(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, tensor.Tensor{}, in[3].t, in[4].t,
							groups, false, tensor.Dropout{}, plus(out, in[5:]))
						return
					}
					be.GroupNormGrad(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, in[3].t, in[4].t, groups)
				},
			})
		},
	})
}

// GroupNormSiLU is dropout(silu(groupNorm(x))): one pass over memory where the
// backend implements tensor.GroupNormSiLU, the composition elsewhere.
func (t *Tape) GroupNormSiLU(x, gamma, beta *Value, groups int, eps float32, d Dropout) *Value {
	fused, ok := t.be.(tensor.GroupNormSiLU)
	if !ok {
		return t.Dropout(t.SiLU(t.GroupNorm(x, gamma, beta, groups, eps)), d)
	}
	moments := checkGroupNorm(x, gamma, beta, groups)
	if d.P == 0 {
		d.Draws = nil
	}
	same("GroupNormSiLU draws", d.Draws, tensor.Of(x.shape.Dim(0)))
	y, mean, rstd := resultAs(x.dtype, x.shape), result(moments), result(moments)
	return t.record(&node{
		name: "group_norm_silu", in: []*Value{x, gamma, beta, d.Draws}, out: []*Value{y, mean, rstd}, cheap: true,
		kernel: func(_ tensor.Backend, s *Step, out, in []*Value) {
			fused.GroupNormSiLU(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, groups, eps, d.bound(s, in[3]))
		},
		backward: func(b *backward, n *node) {
			b.groupNormGrad(n, &node{
				name: "group_norm_silu.grad",
				in:   []*Value{b.grad(n.out[0]), b.saved(n.in[0]), n.in[1], n.in[2], n.out[1], n.out[2], n.in[3]},
				kernel: func(be tensor.Backend, s *Step, out, in []*Value) {
					if f, ok := be.(tensor.FusedGradients); ok {
						f.GroupNormGradPlus(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, in[3].t, in[4].t, in[5].t,
							groups, true, d.bound(s, in[6]), plus(out, in[7:]))
						return
					}
					fused.GroupNormSiLUGrad(out[0].t, out[1].t, out[2].t,
						in[0].t, in[1].t, in[2].t, in[3].t, in[4].t, in[5].t, groups, d.bound(s, in[6]))
				},
			})
		},
	})
}

// ScaleShift is the affine map of a GroupNorm whose result is multiplied by 1 + s and
// shifted by t, for gamma and beta [C] and e = [s, t], [N,2C]: gammas = gamma (1 + s)
// and betas = beta (1 + s) + t, both [N,C]. The activations are not touched: the norm
// takes the map instead of its own.
func (t *Tape) ScaleShift(gamma, beta, e *Value) (gammas, betas *Value) {
	n, c := e.shape.Dim(0), gamma.shape.Dim(-1)
	same("ScaleShift gamma", gamma, tensor.Of(c))
	same("ScaleShift beta", beta, tensor.Of(c))
	same("ScaleShift operand", e, tensor.Of(n, 2*c))
	gammas, betas = result(tensor.Of(n, c)), result(tensor.Of(n, c))
	t.record(&node{
		name: "scale_shift", in: []*Value{gamma, beta, e}, out: []*Value{gammas, betas},
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.ScaleShift(out[0].t, out[1].t, in[0].t, in[1].t, in[2].t)
		},
		backward: func(b *backward, n *node) {
			grad := &node{
				name: "scale_shift.grad",
				in: []*Value{
					b.orZero(b.grad(n.out[0]), n.out[0]), b.orZero(b.grad(n.out[1]), n.out[1]),
					b.saved(n.in[0]), b.saved(n.in[1]), b.saved(n.in[2]),
				},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
					be.ScaleShiftGrad(out[0].t, out[1].t, out[2].t, in[0].t, in[1].t, in[2].t, in[3].t, in[4].t)
				},
			}
			for _, v := range n.in {
				grad.out = append(grad.out, orResult(b.target(v), v))
			}
			b.contribute(grad, n.in, grad.out)
		},
	})
	return gammas, betas
}

// groupNormGrad completes the gradient operation of n, whose results are those of
// x, gamma and beta. All three are written, wanted or not; dx may take dy's
// memory.
func (b *backward) groupNormGrad(n, grad *node) {
	for _, v := range n.in[:3] {
		grad.out = append(grad.out, orResult(b.target(v), v))
	}
	grad.inPlace = []int{0}
	for _, x := range b.takeAlong(n.in[0], maxAddends) {
		grad.inPlace = append(grad.inPlace, len(grad.in))
		grad.in = append(grad.in, x)
	}
	if b.fused && n.in[0].shape.Rank() == 4 {
		b.norms[grad.out[0].base()] = grad
	}
	b.contribute(grad, n.in[:3], grad.out)
}

// plus is what a gradient operation takes along and sums.
func plus(out, addends []*Value) (p tensor.NormPlus) {
	for i, x := range addends {
		p.Addends[i] = x.t
	}
	if len(out) > 3 {
		p.Sums = out[3].t
	}
	return p
}

func checkGroupNorm(x, gamma, beta *Value, groups int) (moments tensor.Shape) {
	c := x.shape.Dim(-1)
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("autograd: GroupNorm of %v in %d groups", x.shape, groups))
	}
	n, affine := x.shape.Dim(0), tensor.Of(c)
	if gamma.shape.Rank() == 2 {
		affine = tensor.Of(n, c)
	}
	same("GroupNorm gamma", gamma, affine)
	same("GroupNorm beta", beta, affine)
	return tensor.Of(n, groups)
}
