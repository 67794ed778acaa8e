package nn

import (
	"math"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// Attention is self-attention over the pixels of an image with a residual:
// x + out(softmax(q k' / sqrt(d)) v) with q, k, v linear in GroupNorm(x) and
// d channels a head (Ho et al., arXiv 2006.11239, appendix B).
type Attention struct {
	norm    *GroupNorm
	q, k, v *LinearLayer
	out     *LinearLayer
	heads   int
}

// NewAttention registers NAME.group_norm, .to_q, .to_k, .to_v and .to_out.0. heads
// divides channels.
func NewAttention(p *Params, name string, channels, heads, groups int, eps float64) *Attention {
	return &Attention{
		norm:  NewGroupNorm(p, name+".group_norm", channels, groups, eps),
		q:     NewLinear(p, name+".to_q", channels, channels),
		k:     NewLinear(p, name+".to_k", channels, channels),
		v:     NewLinear(p, name+".to_v", channels, channels),
		out:   NewLinear(p, name+".to_out.0", channels, channels),
		heads: heads,
	}
}

// Forward applies the layer to x [N,H,W,C].
func (l *Attention) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	s := x.Shape()
	rows := tensor.Of(s.Dim(0), s.Dim(1)*s.Dim(2), s.Dim(3))
	h := l.norm.Forward(t, x)
	q := t.View(l.q.Pixels(t, h, nil), rows)
	k := t.View(l.k.Pixels(t, h, nil), rows)
	v := t.View(l.v.Pixels(t, h, nil), rows)
	scale := 1 / math.Sqrt(float64(s.Dim(3)/l.heads))
	y := t.Attention(q, k, v, l.heads, float32(scale))
	return l.out.Pixels(t, t.View(y, s), x)
}
