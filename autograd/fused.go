package autograd

import "github.com/agrdist/agrdist/tensor"

// What a backward pass does where the backend is a tensor.FusedGradients: the gradient of
// a normalisation, of a product or of a pointwise convolution takes along what else flows
// to the same value, and the gradient of a normalisation sums itself over the pixels, which
// is the gradient of the bias in front of it.

// maxAddends is what the gradient of a normalisation takes along.
const maxAddends = len(tensor.NormPlus{}.Addends)

// settle adds up the contributions to a value in the order in which they came.
func (b *backward) settle(base *Value) {
	if p := b.fold(base, 1); len(p) == 1 {
		b.grads[base] = p[0]
		delete(b.pending, base)
	}
}

// fold adds the first contributions up until no more than most are left.
func (b *backward) fold(base *Value, most int) []*Value {
	p := b.pending[base]
	for len(p) > most {
		sum := resultAs(base.dtype, base.shape)
		b.emit(&node{name: "accumulate", in: []*Value{p[0], p[1]}, out: []*Value{sum}, inPlace: []int{0, 1}, kernel: addKernel})
		p = append([]*Value{sum}, p[2:]...)
	}
	b.pending[base] = p
	return p
}

// takeAlong hands the contributions to v so far, no more than most, to the operation that
// adds them to its own.
func (b *backward) takeAlong(v *Value, most int) []*Value {
	if !b.fused || !b.wants(v) || v.base().param != nil {
		return nil
	}
	base := v.base()
	taken := b.fold(base, most)
	delete(b.pending, base)
	for i, x := range taken {
		if x.shape != v.shape {
			taken[i] = b.tape.View(x, v.shape)
		}
	}
	return taken
}

// addition makes n, which writes out[0] = f(...), add to the contributions to v so far. f
// adds to what is there.
func (b *backward) addition(n *node, v *Value, f kernel) *node {
	taken := b.takeAlong(v, 1)
	if len(taken) == 0 {
		return n
	}
	n.inPlace = []int{len(n.in)}
	n.in = append(n.in, taken[0])
	n.name += "_add"
	n.kernel = func(be tensor.Backend, s *Step, out, in []*Value) {
		be.Copy(out[0].t, in[len(in)-1].t) // nothing where they are one
		f(be, s, out, in)
	}
	return n
}

// part is one of the two gradients that concat.grad cuts whole into.
type part struct {
	whole *Value
	pair  *[2]*Value // both
	index int
	sums  *[2]*Value // of both, once one was asked for
}

// split notes where two gradients come from.
func (b *backward) split(whole, da, db *Value) {
	pair, sums := &[2]*Value{da, db}, &[2]*Value{}
	for i, v := range pair {
		b.parts[v] = &part{whole: whole, pair: pair, index: i, sums: sums}
	}
}

// columnSums is the sum of a gradient over the pixels, [N,C], where the operation that
// writes it can give that, and else nil.
func (b *backward) columnSums(dy *Value) *Value {
	if n := b.norms[dy.base()]; n != nil {
		if len(n.out) == 3 {
			n.out = append(n.out, result(samplesByChannels(dy)))
		}
		return n.out[3]
	}
	p := b.parts[dy.base()]
	if p == nil {
		return nil
	}
	if p.sums[0] == nil {
		whole := b.columnSums(p.whole)
		if whole == nil {
			return nil
		}
		for i, v := range p.pair {
			p.sums[i] = result(samplesByChannels(v))
		}
		b.emit(&node{name: "concat.grad_sums", in: []*Value{whole}, out: p.sums[:], kernel: splitKernel})
	}
	return p.sums[p.index]
}

func samplesByChannels(v *Value) tensor.Shape { return tensor.Of(v.shape.Dim(0), v.shape.Dim(-1)) }

// biasFromSums gives the gradients of perSample and bias from the sums of dy over the
// pixels, and says whether it did: else dy has to be read.
func (b *backward) biasFromSums(bias, perSample, dy *Value) bool {
	if !b.fused || !b.wants(bias) && !b.wants(perSample) {
		return false
	}
	sums := b.columnSums(dy)
	switch {
	case sums != nil && b.wants(perSample):
		if perSample.dtype != sums.dtype {
			return false
		}
		b.contribute(nil, []*Value{perSample}, []*Value{sums})
	case sums == nil && b.wants(perSample):
		sums = resultAs(perSample.dtype, perSample.shape)
		b.contribute(&node{
			name: "sum_channels", in: []*Value{dy}, out: []*Value{sums},
			kernel: func(be tensor.Backend, _ *Step, out, in []*Value) { be.SumChannels(out[0].t, in[0].t) },
		}, []*Value{perSample}, []*Value{sums})
	case sums == nil:
		return false
	}
	if b.wants(bias) {
		b.sumChannels(bias, sums)
	}
	return true
}
