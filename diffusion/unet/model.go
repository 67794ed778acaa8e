package unet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// classEmbedding is the key of the table of classes.
const classEmbedding = "class_embedding"

// Model is a UNet on a backend.
type Model struct {
	be     tensor.Backend
	config Config
	params *nn.Params
	net    network
	runner runner
}

// network is the layers in forward order.
type network struct {
	embedding *nn.Embedding
	classes   *nn.Table // nil: not conditional
	convIn    *nn.Conv2D
	down      []downBlock
	mid       []*resBlock
	midAttn   *nn.Attention
	up        []upBlock
	normOut   *nn.GroupNorm
	convOut   *nn.Conv2D
}

type downBlock struct {
	resnets    []*resBlock
	downsample *nn.Conv2D // nil at the last level
}

type upBlock struct {
	resnets  []*resBlock
	upsample *nn.Conv2D // nil at the first level
}

// New makes a model with zero weights on a backend; Init or Load fills them. It
// fails on an invalid configuration or when the device has no room.
func New(be tensor.Backend, c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.BlockOutChannels = slices.Clone(c.BlockOutChannels)
	c.AttentionLevels = slices.Clone(c.AttentionLevels)
	m := &Model{be: be, config: c, params: &nn.Params{}}
	m.net = build(m.params, c)
	if err := m.params.Alloc(be); err != nil {
		return nil, fmt.Errorf("unet: %w", err)
	}
	m.runner.init(m)
	return m, nil
}

// Params is the flat storage of the parameters and their gradients.
func (m *Model) Params() *nn.Params { return m.params }

// Config is the configuration of New.
func (m *Model) Config() Config { return m.config }

// build registers the layers in forward order.
func build(p *nn.Params, c Config) network {
	b := &builder{params: p, config: c}
	levels := len(c.BlockOutChannels)
	first, last := c.BlockOutChannels[0], c.BlockOutChannels[levels-1]
	down := tensor.Conv{Kernel: 3, Stride: 2, PadLo: c.DownsamplePadding, PadHi: 1}

	var n network
	n.embedding = nn.NewEmbedding(p, "time_embedding", first, 4*first, c.FreqShift, c.FlipSinToCos)
	if c.NumClassEmbeds > 0 {
		n.classes = nn.NewTable(p, classEmbedding, c.NumClassEmbeds, 4*first)
	}
	n.convIn = nn.NewConv2D(p, "conv_in", c.InChannels, first, same3x3)
	now := first
	for i, out := range c.BlockOutChannels {
		var d downBlock
		prefix := fmt.Sprintf("down_blocks.%d", i)
		for j := range c.LayersPerBlock {
			d.resnets = append(d.resnets, b.resBlock(prefix, j, now, out, slices.Contains(c.AttentionLevels, i)))
			now = out
		}
		if i < levels-1 {
			d.downsample = nn.NewConv2D(p, prefix+".downsamplers.0.conv", now, now, down)
		}
		n.down = append(n.down, d)
	}

	n.mid = append(n.mid, b.resBlock("mid_block", 0, last, last, false))
	if !c.NoMidAttention {
		n.midAttn = b.attention("mid_block", 0, last)
	}
	n.mid = append(n.mid, b.resBlock("mid_block", 1, last, last, false))

	skips := c.skips()
	for i := range levels {
		var u upBlock
		prefix, level := fmt.Sprintf("up_blocks.%d", i), levels-1-i
		out := c.BlockOutChannels[level]
		for j := range c.LayersPerBlock + 1 {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			u.resnets = append(u.resnets, b.resBlock(prefix, j, now+skip, out, slices.Contains(c.AttentionLevels, level)))
			now = out
		}
		if level > 0 {
			u.upsample = nn.NewConv2D(p, prefix+".upsamplers.0.conv", now, now, same3x3)
		}
		n.up = append(n.up, u)
	}
	n.normOut = nn.NewGroupNorm(p, "conv_norm_out", first, c.NormNumGroups, c.NormEps)
	n.convOut = nn.NewConv2D(p, "conv_out", first, c.OutChannels, same3x3)
	return n
}

// forward records the network: x [N,H,W,in] at timesteps ts [N]. draws says which
// samples these are for dropout; nil drops nothing. classes are one-hot rows
// [N,classes] of a conditional model.
func (n *network) forward(t *autograd.Tape, x, ts, draws, classes *autograd.Value) *autograd.Value {
	temb := n.embedding.Forward(t, ts)
	if n.classes != nil {
		temb = t.Add(temb, n.classes.Forward(t, classes))
	}
	temb = t.SiLU(temb)
	h := n.convIn.Forward(t, x, nil, nil)
	skips := []*autograd.Value{h}
	for _, d := range n.down {
		for _, r := range d.resnets {
			h = r.forward(t, h, temb, draws)
			skips = append(skips, h)
		}
		if d.downsample != nil {
			h = d.downsample.Forward(t, h, nil, nil)
			skips = append(skips, h)
		}
	}
	h = n.mid[0].forward(t, h, temb, draws)
	if n.midAttn != nil {
		h = n.midAttn.Forward(t, h)
	}
	h = n.mid[1].forward(t, h, temb, draws)
	for _, u := range n.up {
		for _, r := range u.resnets {
			h = t.Concat(h, skips[len(skips)-1])
			skips = skips[:len(skips)-1]
			h = r.forward(t, h, temb, draws)
		}
		if u.upsample != nil {
			h = u.upsample.Forward(t, t.Upsample(h), nil, nil)
		}
	}
	return n.convOut.Forward(t, n.normOut.SiLU(t, h, autograd.Dropout{}), nil, nil)
}

// Init fills the weights from the seed as DDPM does: Xavier uniform, biases 0,
// normalisation scales 1; the last convolution of every residual block and of the
// network starts at 1e-5 of that, so that blocks start as the identity. The vectors
// of classes are standard normal, as PyTorch's.
func (m *Model) Init(seed uint64) {
	flat := make([]float32, m.params.FlatLen())
	for i, p := range m.params.List() {
		dst := flat[p.Off : p.Off+p.Len]
		switch {
		case p.Kind != nn.Vector:
			gain := 1.0
			if strings.HasSuffix(p.Name, ".conv2.weight") || p.Name == "conv_out.weight" {
				gain = 1e-5
			}
			torch := make([]float32, p.Len)
			p.XavierUniform(torch, gain, seed, i)
			p.FromTorch(dst, torch)
		case p.Name == classEmbedding+".weight":
			rng.New(seed, rng.StreamInit.With(i)).Normal(dst, 0)
		case strings.HasSuffix(p.Name, ".weight"):
			for j := range dst {
				dst[j] = 1
			}
		}
	}
	m.be.Upload(m.params.Values(), flat)
}
