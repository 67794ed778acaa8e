package autograd

import "github.com/agrdist/agrdist/tensor"

// MSE is the loss [N] of each sample: the sum of (pred - target)^2. On a tape that
// trains it is where gradients start: d(total)/d(pred) = 2 GradScale
// (pred - target), GradScale being Step.GradScale. No gradient flows to target.
func (t *Tape) MSE(pred, target *Value) *Value {
	same("MSE target", target, pred.shape)
	sameType("MSE", pred, target)
	n := &node{
		name: "mse", in: []*Value{pred, target}, out: []*Value{result(tensor.Of(pred.shape.Dim(0)))},
		root: t.config.Train,
		kernel: func(be tensor.Backend, s *Step, out, in []*Value) {
			var dpred tensor.Tensor
			if len(out) > 1 {
				dpred = out[1].t
			}
			be.MSE(out[0].t, dpred, in[0].t, in[1].t, s.GradScale)
		},
		backward: func(b *backward, n *node) { b.contribute(nil, n.in[:1], n.out[1:]) },
	}
	if t.config.Train {
		n.out = append(n.out, resultAs(pred.dtype, pred.shape))
	}
	return t.record(n)
}

// TimestepEmbedding is the sinusoidal embedding [N, dim] of timesteps ts, I64 [N]:
// frequency k of dim/2 is 10000^(-k/(dim/2 - freqShift)); sines first, or
// cosines first with flip (Vaswani et al., section 3.5; Ho et al., appendix B).
func (t *Tape) TimestepEmbedding(ts *Value, dim, freqShift int, flip bool) *Value {
	return t.record(&node{
		name: "timestep_embedding", in: []*Value{ts}, out: []*Value{result(tensor.Of(ts.shape.Dim(0), dim))},
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.TimestepEmbedding(out[0].t, in[0].t, freqShift, flip)
		},
	})
}
