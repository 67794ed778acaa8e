package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Conv2D is y = conv(x, w) + bias [+ perSample] [+ residual]: x [N,H,W,Cin],
// w [k,k,Cin,Cout], bias [Cout], perSample [N,Cout], residual like y. bias,
// perSample and residual may be nil. The result has the type of residual, and else
// the one in which the backend stores activations.
func (t *Tape) Conv2D(x, w, bias, perSample, residual *Value, c tensor.Conv) *Value {
	n, h, wd, cin := dims4("Conv2D", x)
	if ws := w.shape; ws.Rank() != 4 || ws.Dim(0) != c.Kernel || ws.Dim(1) != c.Kernel || ws.Dim(2) != cin {
		panic(fmt.Sprintf("autograd: Conv2D of %v with weight %v and kernel %d", x.shape, ws, c.Kernel))
	}
	cout := w.shape.Dim(3)
	y := resultAs(t.activations(), tensor.Of(n, c.OutSize(h), c.OutSize(wd), cout))
	if residual != nil {
		y = resultAs(residual.dtype, y.shape)
	}
	same("Conv2D bias", bias, tensor.Of(cout))
	same("Conv2D perSample", perSample, tensor.Of(n, cout))
	same("Conv2D residual", residual, y.shape)
	return t.record(&node{
		name: "conv2d", in: []*Value{x, w, bias, perSample, residual}, out: []*Value{y},
		inPlace: []int{4}, anyType: residual == nil,
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.Conv2D(out[0].t, in[0].t, in[1].t, opt(in[2]), opt(in[3]), opt(in[4]), c)
		},
		backward: func(b *backward, n *node) { conv2DBackward(b, n, c) },
	})
}

// conv2DBackward takes the weight gradient first: it is the last reader of x, and
// the sooner a parameter is ready, the sooner it can be sent.
func conv2DBackward(b *backward, n *node, c tensor.Conv) {
	x, w, bias, perSample, residual := n.in[0], n.in[1], n.in[2], n.in[3], n.in[4]
	dy := b.grad(n.out[0])
	if b.biasFromSums(bias, perSample, dy) {
		bias, perSample = nil, nil
	}
	if b.wants(w) || b.wants(bias) {
		dw, db := b.target(w), b.target(bias)
		if dw == nil {
			dw = result(w.shape)
		}
		b.contribute(&node{
			name: "conv2d.weight_grad", in: []*Value{b.saved(x), dy}, out: []*Value{dw, db},
			kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
				be.Conv2DWeightGrad(out[0].t, opt(out[1]), in[0].t, in[1].t, c)
			},
		}, []*Value{w, bias}, []*Value{dw, db})
	}
	if b.wants(perSample) {
		b.sumChannels(perSample, dy)
	}
	if b.wants(x) {
		dx := b.target(x)
		grad := &node{
			name: "conv2d.input_grad", in: []*Value{dy, w}, out: []*Value{dx},
			kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
				be.Conv2DInputGrad(out[0].t, in[0].t, in[1].t, c)
			},
		}
		if c.Kernel == 1 && c.Stride == 1 && c.PadLo+c.PadHi == 0 {
			grad = b.addition(grad, x, func(be tensor.Backend, _ *Step, out, in []*Value) {
				be.(tensor.FusedGradients).Conv2DAddInputGrad(out[0].t, in[0].t, in[1].t, c)
			})
		}
		b.contribute(grad, []*Value{x}, []*Value{dx})
	}
	b.contribute(nil, []*Value{residual}, []*Value{dy})
}

// sumChannels gives v, [C] or [N,C], the sum of dy over the other dimensions.
func (b *backward) sumChannels(v, dy *Value) {
	dv := b.target(v)
	b.contribute(&node{
		name: "sum_channels", in: []*Value{dy}, out: []*Value{dv},
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.SumChannels(out[0].t, in[0].t) },
	}, []*Value{v}, []*Value{dv})
}

// Upsample is nearest-neighbour enlargement by 2: [N,H,W,C] to [N,2H,2W,C].
func (t *Tape) Upsample(x *Value) *Value {
	n, h, w, c := dims4("Upsample", x)
	return t.record(&node{
		name: "upsample", in: []*Value{x}, out: []*Value{resultAs(x.dtype, tensor.Of(n, 2*h, 2*w, c))}, cheap: true,
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.Upsample(out[0].t, in[0].t) },
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "upsample.grad", in: []*Value{b.grad(n.out[0])}, out: []*Value{dx},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.UpsampleGrad(out[0].t, in[0].t) },
			}, n.in, []*Value{dx})
		},
	})
}

func dims4(op string, x *Value) (n, h, w, c int) {
	if x.shape.Rank() != 4 {
		panic(fmt.Sprintf("autograd: %s of %v, want rank 4", op, x.shape))
	}
	return x.shape.Dim(0), x.shape.Dim(1), x.shape.Dim(2), x.shape.Dim(3)
}

// same panics unless the value is absent or has the shape.
func same(op string, v *Value, want tensor.Shape) {
	if v != nil && v.shape != want {
		panic(fmt.Sprintf("autograd: %s is %v, want %v", op, v.shape, want))
	}
}
