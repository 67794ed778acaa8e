package autograd

import (
	"slices"

	"github.com/agrdist/agrdist/tensor"
)

// backward writes the gradient operations of a tape. It exists during Compile.
type backward struct {
	tape  *Tape
	nodes []*node
	// grads holds the gradient so far of each base value.
	grads map[*Value]*Value
	// remade holds the second computation of cheap values.
	remade map[*Value]*Value
	// fused says that the backend adds and sums gradients on the way
	// (tensor.FusedGradients). Contributions then wait in pending until an operation
	// takes them along, or until their sum is needed.
	fused   bool
	pending map[*Value][]*Value
	// norms finds the normalisation whose gradient operation wrote a gradient, and parts
	// the operation that split one: they give its sum over the pixels.
	norms map[*Value]*node
	parts map[*Value]*part
	// writer is the last operation that writes a parameter's gradient.
	writer map[*param]*node
}

// gradients returns the operations of the backward pass, parameters marked
// ready where their gradient is final.
func (t *Tape) gradients() []*node {
	b := &backward{
		tape:   t,
		grads:  map[*Value]*Value{},
		remade: map[*Value]*Value{},
		writer: map[*param]*node{},

		pending: map[*Value][]*Value{},
		norms:   map[*Value]*node{},
		parts:   map[*Value]*part{},
	}
	_, b.fused = t.be.(tensor.FusedGradients)
	for _, n := range slices.Backward(t.nodes) {
		if !n.root && !b.reached(n) {
			continue
		}
		if n.backward == nil {
			panic("autograd: no gradient of " + n.String())
		}
		n.backward(b, n)
	}
	for _, p := range slices.Backward(t.params) {
		if b.writer[p.param] == nil {
			b.writer[p.param] = b.emit(&node{
				name: "zero_grad", out: []*Value{b.external(p)},
				kernel: func(be tensor.Backend, _ *Step, out, _ []*Value) { be.Fill(out[0].t, 0) },
			})
		}
		n := b.writer[p.param]
		n.ready = append(n.ready, p.param.index)
	}
	return b.nodes
}

// reached reports whether a gradient has arrived at a result of the operation.
func (b *backward) reached(n *node) bool {
	return slices.ContainsFunc(n.out, func(v *Value) bool { return v.needsGrad && (b.grads[v] != nil || b.pending[v] != nil) })
}

func (b *backward) emit(n *node) *node {
	b.nodes = append(b.nodes, n)
	return n
}

// saved is the value as the backward pass reads it: v itself if it was kept, or
// the result of a second computation, made once, if it is cheap.
func (b *backward) saved(v *Value) *Value {
	switch {
	case v == nil, b.tape.config.StoreAll:
		return v
	case v.viewOf != nil:
		if base := b.saved(v.viewOf); base != v.viewOf {
			return b.tape.View(base, v.shape)
		}
		return v
	case v.producer == nil, !v.producer.cheap, v != v.producer.out[0]:
		return v
	}
	if r := b.remade[v]; r != nil {
		return r
	}
	n := *v.producer
	n.name += ".again"
	n.in = make([]*Value, len(v.producer.in))
	for i, x := range v.producer.in {
		n.in[i] = b.saved(x)
	}
	n.out = make([]*Value, len(v.producer.out))
	for i, x := range v.producer.out {
		n.out[i] = resultAs(x.dtype, x.shape)
	}
	// The operands may be needed by the caller too; the planner decides.
	b.emit(&n)
	b.remade[v] = n.out[0]
	return n.out[0]
}

// wants reports whether a gradient has to flow to the operand.
func (b *backward) wants(v *Value) bool { return v != nil && v.needsGrad }

// grad is the gradient of the operation's result, final when its backward runs.
func (b *backward) grad(v *Value) *Value {
	b.settle(v.base())
	g := b.grads[v.base()]
	if g == nil || g.shape == v.shape {
		return g
	}
	return b.tape.View(g, v.shape)
}

// target is where an operation writes its contribution to the gradient of v: the
// owner's buffer for the first contribution to a parameter, else new memory.
// The operation is then handed to contribute.
func (b *backward) target(v *Value) *Value {
	if !b.wants(v) {
		return nil
	}
	if base := v.base(); base.param != nil && b.writer[base.param] == nil {
		return b.tape.View(b.external(base), v.shape)
	}
	return resultAs(v.dtype, v.shape)
}

// external is the gradient buffer of a parameter as a value.
func (b *backward) external(p *Value) *Value {
	if g := b.grads[p]; g != nil {
		return g
	}
	g := &Value{shape: p.shape, dtype: tensor.F32, t: p.param.grad, store: &storage{elems: p.shape.Len(), external: true}}
	b.grads[p] = g
	return g
}

// contribute emits the operation n that writes gradient contributions: dx[i],
// made by target or known already, is one to v[i]. Entries where v[i] wants none
// are ignored.
func (b *backward) contribute(n *node, v, dx []*Value) {
	if n != nil {
		b.emit(n)
	}
	for i, x := range v {
		if b.wants(x) {
			b.accumulate(n, x, dx[i])
		}
	}
}

// accumulate adds dx, written by n, to the gradient of x.
func (b *backward) accumulate(n *node, x, dx *Value) {
	base := x.base()
	if dx.shape != base.shape {
		dx = b.tape.View(dx, base.shape)
	}
	add := &node{name: "accumulate", inPlace: []int{0, 1}, kernel: addKernel}
	switch p := base.param; {
	case p == nil && b.fused:
		b.pending[base] = append(b.pending[base], dx)
	case p == nil && b.grads[base] == nil:
		b.grads[base] = dx
	case p == nil:
		sum := resultAs(base.dtype, base.shape)
		add.in, add.out = []*Value{b.grads[base], dx}, []*Value{sum}
		b.emit(add)
		b.grads[base] = sum
	case dx.store == b.external(base).store:
		b.writer[p] = n
	case b.writer[p] == nil:
		b.writer[p] = b.emit(&node{
			name: "copy_grad", in: []*Value{dx}, out: []*Value{b.external(base)},
			kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.Copy(out[0].t, in[0].t) },
		})
	default:
		grad := b.external(base)
		add.in, add.out = []*Value{grad, dx}, []*Value{grad}
		b.writer[p] = b.emit(add)
	}
}
