package unet

import (
	"fmt"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

var (
	same3x3   = tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	pixelwise = tensor.Conv{Kernel: 1, Stride: 1}
)

// resBlock is a residual block (ResnetBlock2D in diffusers): norm, SiLU, conv3x3,
// + the projected timestep embedding, norm, SiLU, dropout, conv3x3, + shortcut,
// and attention where the level has it. With scaleShift the projection is a scale and
// a shift of the second norm's output instead.
type resBlock struct {
	shortcut   *nn.Conv2D // nil where the channels do not change
	norm1      *nn.GroupNorm
	timeProj   *nn.LinearLayer
	conv1      *nn.Conv2D
	norm2      *nn.GroupNorm
	conv2      *nn.Conv2D
	attention  *nn.Attention // nil without
	dropout    autograd.Dropout
	scaleShift bool
}

// builder registers the parameters of a model in forward order, which is the order
// in which the blocks below record their operations; backward then finishes them
// in exactly the reverse order.
type builder struct {
	params *nn.Params
	config Config
	blocks int // residual blocks so far: the index of their dropout streams
}

func (b *builder) resBlock(prefix string, index, in, out int, attention bool) *resBlock {
	c := b.config
	name := fmt.Sprintf("%s.resnets.%d", prefix, index)
	r := &resBlock{scaleShift: c.ScaleShift}
	if in != out {
		r.shortcut = nn.NewConv2D(b.params, name+".conv_shortcut", in, out, pixelwise)
	}
	r.norm1 = nn.NewGroupNorm(b.params, name+".norm1", in, c.NormNumGroups, c.NormEps)
	if !c.ScaleShift {
		r.timeProj = nn.NewLinear(b.params, name+".time_emb_proj", 4*c.BlockOutChannels[0], out)
	}
	r.conv1 = nn.NewConv2D(b.params, name+".conv1", in, out, same3x3)
	if c.ScaleShift { // it acts behind the convolution
		r.timeProj = nn.NewLinear(b.params, name+".time_emb_proj", 4*c.BlockOutChannels[0], 2*out)
	}
	r.norm2 = nn.NewGroupNorm(b.params, name+".norm2", out, c.NormNumGroups, c.NormEps)
	r.conv2 = nn.NewConv2D(b.params, name+".conv2", out, out, same3x3)
	if attention {
		r.attention = b.attention(prefix, index, out)
	}
	r.dropout = autograd.Dropout{P: float32(c.Dropout), Stream: uint32(rng.StreamDropout.With(b.blocks))}
	b.blocks++
	return r
}

func (b *builder) attention(prefix string, index, channels int) *nn.Attention {
	c := b.config
	name := fmt.Sprintf("%s.attentions.%d", prefix, index)
	return nn.NewAttention(b.params, name, channels, c.heads(channels), c.NormNumGroups, c.NormEps)
}

// forward applies the block to x [N,H,W,in]; temb is SiLU of the timestep
// embedding; draws is nil where nothing is dropped.
func (r *resBlock) forward(t *autograd.Tape, x, temb, draws *autograd.Value) *autograd.Value {
	residual := x
	if r.shortcut != nil {
		residual = r.shortcut.Forward(t, x, nil, nil)
	}
	drop := r.dropout
	drop.Draws = draws
	if draws == nil {
		drop.P = 0
	}
	h := r.norm1.SiLU(t, x, autograd.Dropout{})
	if r.scaleShift {
		h = r.conv1.Forward(t, h, nil, nil)
		h = r.norm2.ScaleShiftSiLU(t, h, r.timeProj.Forward(t, temb), drop)
	} else {
		h = r.conv1.Forward(t, h, r.timeProj.Forward(t, temb), nil)
		h = r.norm2.SiLU(t, h, drop)
	}
	h = r.conv2.Forward(t, h, nil, residual)
	if r.attention != nil {
		h = r.attention.Forward(t, h)
	}
	return h
}
