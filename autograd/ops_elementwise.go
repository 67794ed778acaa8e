package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

func addKernel(be tensor.Backend, _ *Step, out, in []*Value) { be.Add(out[0].t, in[0].t, in[1].t) }

// Add is a + b, of one shape.
func (t *Tape) Add(a, b *Value) *Value {
	same("Add operand", b, a.shape)
	sameType("Add", a, b)
	return t.record(&node{
		name: "add", in: []*Value{a, b}, out: []*Value{resultAs(a.dtype, a.shape)}, inPlace: []int{0, 1},
		kernel: addKernel,
		backward: func(b *backward, n *node) {
			dy := b.grad(n.out[0])
			b.contribute(nil, n.in, []*Value{dy, dy})
		},
	})
}

// AddChannels is x[n,...,c] + e[n,c], or + e[c] for e of rank 1 (a bias).
func (t *Tape) AddChannels(x, e *Value) *Value {
	want := tensor.Of(x.shape.Dim(0), x.shape.Dim(-1))
	if e.shape.Rank() == 1 {
		want = tensor.Of(x.shape.Dim(-1))
	}
	same("AddChannels operand", e, want)
	return t.record(&node{
		name: "add_channels", in: []*Value{x, e}, out: []*Value{resultAs(x.dtype, x.shape)}, inPlace: []int{0},
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
			be.AddChannels(out[0].t, in[0].t, in[1].t)
		},
		backward: func(b *backward, n *node) {
			dy := b.grad(n.out[0])
			if b.wants(n.in[1]) {
				b.sumChannels(n.in[1], dy)
			}
			b.contribute(nil, n.in[:1], []*Value{dy})
		},
	})
}

// ScaleSamples is 2 half[n] x[n,...], for half F32 [N]. (The backends' weighted sum of
// two tensors does it, with x as both.)
func (t *Tape) ScaleSamples(x, half *Value) *Value {
	same("ScaleSamples factor", half, tensor.Of(x.shape.Dim(0)))
	kernel := func(be tensor.Backend, _ *Step, out, in []*Value) {
		be.QSample(out[0].t, in[0].t, in[0].t, in[1].t, in[1].t)
	}
	return t.record(&node{
		name: "scale_samples", in: []*Value{x, half}, out: []*Value{resultAs(x.dtype, x.shape)}, kernel: kernel,
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "scale_samples.grad", in: []*Value{b.grad(n.out[0]), b.saved(n.in[1])}, out: []*Value{dx}, kernel: kernel,
			}, n.in[:1], []*Value{dx})
		},
	})
}

// SiLU is x sigmoid(x), also called Swish.
func (t *Tape) SiLU(x *Value) *Value {
	return t.record(&node{
		name: "silu", in: []*Value{x}, out: []*Value{resultAs(x.dtype, x.shape)}, inPlace: []int{0}, cheap: true,
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.SiLU(out[0].t, in[0].t) },
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "silu.grad", in: []*Value{b.grad(n.out[0]), b.saved(n.in[0])}, out: []*Value{dx}, inPlace: []int{0, 1},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) {
					be.SiLUGrad(out[0].t, in[0].t, in[1].t)
				},
			}, n.in, []*Value{dx})
		},
	})
}

// Dropout names a mask: the probability to drop, the stream of package rng, and
// the draws, I64 [N], that say which samples these are. The seed is Step.Seed.
// P = 0 drops nothing, and Draws may then be nil.
type Dropout struct {
	P      float32
	Stream uint32
	Draws  *Value
}

func (d Dropout) bound(s *Step, draws *Value) tensor.Dropout {
	return tensor.Dropout{P: d.P, Seed: s.Seed, Stream: d.Stream, Draws: opt(draws)}
}

// Dropout is x m/(1-p) with a mask m of zeros and ones.
func (t *Tape) Dropout(x *Value, d Dropout) *Value {
	if d.P == 0 {
		return x
	}
	same("Dropout draws", d.Draws, tensor.Of(x.shape.Dim(0)))
	kernel := func(be tensor.Backend, s *Step, out, in []*Value) {
		be.Dropout(out[0].t, in[0].t, in[1].t, d.P, s.Seed, d.Stream)
	}
	return t.record(&node{
		name: "dropout", in: []*Value{x, d.Draws}, out: []*Value{resultAs(x.dtype, x.shape)}, inPlace: []int{0}, cheap: true,
		kernel: kernel,
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "dropout.grad", in: []*Value{b.grad(n.out[0]), n.in[1]}, out: []*Value{dx}, inPlace: []int{0},
				kernel: kernel,
			}, n.in[:1], []*Value{dx})
		},
	})
}

// Concat is [a, b] along the last dimension.
func (t *Tape) Concat(a, b *Value) *Value {
	r := a.shape.Rank()
	dims := a.shape.Dims()
	dims[r-1] = b.shape.Dim(-1)
	same("Concat operand", b, tensor.Of(dims...))
	sameType("Concat", a, b)
	dims[r-1] += a.shape.Dim(-1)
	return t.record(&node{
		name: "concat", in: []*Value{a, b}, out: []*Value{resultAs(a.dtype, tensor.Of(dims...))}, cheap: true,
		kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.Concat(out[0].t, in[0].t, in[1].t) },
		backward: func(b *backward, n *node) {
			// Split writes both parts; an unwanted one goes to memory that is free
			// again at once.
			da, db := orResult(b.target(n.in[0]), n.in[0]), orResult(b.target(n.in[1]), n.in[1])
			dy := b.grad(n.out[0])
			b.split(dy, da, db)
			b.contribute(&node{
				name: "concat.grad", in: []*Value{dy}, out: []*Value{da, db}, kernel: splitKernel,
			}, n.in, []*Value{da, db})
		},
	})
}

func splitKernel(be tensor.Backend, _ *Step, out, in []*Value) {
	be.Split(out[0].t, out[1].t, in[0].t)
}

func orResult(target, v *Value) *Value {
	if target == nil {
		return resultAs(v.dtype, v.shape)
	}
	return target
}

// Split cuts x along the last dimension into the first c elements and the rest.
func (t *Tape) Split(x *Value, c int) (a, b *Value) {
	last := x.shape.Dim(-1)
	if c <= 0 || c >= last {
		panic(fmt.Sprintf("autograd: Split of %v at %d", x.shape, c))
	}
	dims := x.shape.Dims()
	dims[len(dims)-1] = c
	a = resultAs(x.dtype, tensor.Of(dims...))
	dims[len(dims)-1] = last - c
	b = resultAs(x.dtype, tensor.Of(dims...))
	t.record(&node{
		name: "split", in: []*Value{x}, out: []*Value{a, b}, kernel: splitKernel,
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			da, db := b.grad(n.out[0]), b.grad(n.out[1])
			b.contribute(&node{
				name: "split.grad", in: []*Value{b.orZero(da, n.out[0]), b.orZero(db, n.out[1])}, out: []*Value{dx},
				kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.Concat(out[0].t, in[0].t, in[1].t) },
			}, n.in, []*Value{dx})
		},
	})
	return a, b
}

// orZero is the gradient, or zeros where nothing used the value.
func (b *backward) orZero(grad, v *Value) *Value {
	if grad != nil {
		return grad
	}
	zero := resultAs(v.dtype, v.shape)
	b.emit(&node{
		name: "zero", out: []*Value{zero},
		kernel: func(be tensor.Backend, _ *Step, out, _ []*Value) { be.Fill(out[0].t, 0) },
	})
	return zero
}

// Float is x in F32, as a loss or a caller wants it: x itself where it is so, where
// a convolution without residual was recorded just before, which then writes F32,
// and a copy elsewhere.
func (t *Tape) Float(x *Value) *Value {
	switch n := x.producer; {
	case x.dtype == tensor.F32:
		return x
	case n != nil && n == t.nodes[len(t.nodes)-1] && n.anyType:
		x.dtype, x.store.dtype = tensor.F32, tensor.F32
		return x
	}
	copyKernel := func(be tensor.Backend, _ *Step, out, in []*Value) { be.Copy(out[0].t, in[0].t) }
	return t.record(&node{
		name: "float", in: []*Value{x}, out: []*Value{result(x.shape)}, kernel: copyKernel,
		backward: func(b *backward, n *node) {
			dx := b.target(n.in[0])
			b.contribute(&node{
				name: "float.grad", in: []*Value{b.grad(n.out[0])}, out: []*Value{dx}, kernel: copyKernel,
			}, n.in, []*Value{dx})
		},
	})
}

// sameType panics unless both values are stored in one type.
func sameType(op string, a, b *Value) {
	if a.dtype != b.dtype {
		panic(fmt.Sprintf("autograd: %s of %v %v and %v %v", op, a.dtype, a.shape, b.dtype, b.shape))
	}
}
