package nn

import (
	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// Conv2D is a convolution with bias.
type Conv2D struct {
	params       *Params
	weight, bias int
	conv         tensor.Conv
}

// NewConv2D registers NAME.weight and NAME.bias.
func NewConv2D(p *Params, name string, in, out int, c tensor.Conv) *Conv2D {
	return &Conv2D{
		params: p, conv: c,
		weight: p.Add(name+".weight", Conv, out, in, c.Kernel, c.Kernel),
		bias:   p.Add(name+".bias", Vector, out),
	}
}

// Forward is conv(x) + bias [+ perSample] [+ residual]: x [N,H,W,in], perSample
// [N,out] or nil, residual like the result or nil.
func (l *Conv2D) Forward(t *autograd.Tape, x, perSample, residual *autograd.Value) *autograd.Value {
	return t.Conv2D(x, l.params.Leaf(t, l.weight), l.params.Leaf(t, l.bias), perSample, residual, l.conv)
}

// LinearLayer is x W + b over the last dimension.
type LinearLayer struct {
	params       *Params
	weight, bias int
}

// NewLinear registers NAME.weight and NAME.bias.
func NewLinear(p *Params, name string, in, out int) *LinearLayer {
	return &LinearLayer{
		params: p,
		weight: p.Add(name+".weight", Linear, out, in),
		bias:   p.Add(name+".bias", Vector, out),
	}
}

// Forward applies the layer to rows [N,in].
func (l *LinearLayer) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	y := t.MatMul(x, l.params.Leaf(t, l.weight), false, false, 1)
	return t.AddChannels(y, l.params.Leaf(t, l.bias))
}

// Pixels applies the layer to every pixel of [N,H,W,in], as a 1x1 convolution, and
// adds residual, which may be nil.
func (l *LinearLayer) Pixels(t *autograd.Tape, x, residual *autograd.Value) *autograd.Value {
	s := l.params.List()[l.weight].layout()
	w := l.params.LeafAs(t, l.weight, tensor.Of(1, 1, s.Dim(0), s.Dim(1)))
	return t.Conv2D(x, w, l.params.Leaf(t, l.bias), nil, residual, tensor.Conv{Kernel: 1, Stride: 1})
}

// GroupNorm normalises groups of channels (Wu & He, arXiv 1803.08494).
type GroupNorm struct {
	params      *Params
	gamma, beta int
	groups      int
	eps         float32
}

// NewGroupNorm registers NAME.weight and NAME.bias.
func NewGroupNorm(p *Params, name string, channels, groups int, eps float64) *GroupNorm {
	return &GroupNorm{
		params: p, groups: groups, eps: float32(eps),
		gamma: p.Add(name+".weight", Vector, channels),
		beta:  p.Add(name+".bias", Vector, channels),
	}
}

// Forward is the normalised x.
func (l *GroupNorm) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.GroupNorm(x, l.params.Leaf(t, l.gamma), l.params.Leaf(t, l.beta), l.groups, l.eps)
}

// SiLU is dropout(silu(normalised x)), fused where the backend can.
func (l *GroupNorm) SiLU(t *autograd.Tape, x *autograd.Value, d autograd.Dropout) *autograd.Value {
	return t.GroupNormSiLU(x, l.params.Leaf(t, l.gamma), l.params.Leaf(t, l.beta), l.groups, l.eps, d)
}

// ScaleShiftSiLU is dropout(silu(normalised x (1 + s) + t)) for e = [s, t], [N,2C].
func (l *GroupNorm) ScaleShiftSiLU(t *autograd.Tape, x, e *autograd.Value, d autograd.Dropout) *autograd.Value {
	gammas, betas := t.ScaleShift(l.params.Leaf(t, l.gamma), l.params.Leaf(t, l.beta), e)
	return t.GroupNormSiLU(x, gammas, betas, l.groups, l.eps, d)
}
