package gradcheck

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// Fused is a Backend that also offers the fused operations, so that tapes take
// that path.
type Fused struct{ Backend }

var (
	_ tensor.GroupNormSiLU = Fused{}
	_ tensor.Attention     = Fused{}
)

func scratch(s tensor.Shape) tensor.Tensor {
	return tensor.Tensor{Buf: &Buffer{f: make([]float64, s.Len())}, Shape: s}
}

// GroupNormSiLU is dropout(silu(groupNorm(x))).
func (b Fused) GroupNormSiLU(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32, d tensor.Dropout) {
	b.GroupNorm(y, mean, rstd, x, gamma, beta, groups, eps)
	b.SiLU(y, y)
	if d.P > 0 {
		b.Dropout(y, y, d.Draws, d.P, d.Seed, d.Stream)
	}
}

// GroupNormSiLUGrad recomputes the normalised value from the given moments.
func (b Fused) GroupNormSiLUGrad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, d tensor.Dropout) {
	normalised, g := scratch(x.Shape), scratch(x.Shape)
	c, per := x.Shape.Dim(-1), x.Shape.Len()/x.Shape.Dim(0)
	h, scale, shift, m, r := f(normalised), f(gamma), f(beta), f(mean), f(rstd)
	for i, v := range f(x) {
		k, own := i/per*groups+i%c/(c/groups), i/per*each(gamma)
		h[i] = scale[own+i%c]*(v-m[k])*r[k] + shift[own+i%c]
	}
	b.Copy(g, dy)
	if d.P > 0 {
		b.Dropout(g, g, d.Draws, d.P, d.Seed, d.Stream)
	}
	b.SiLUGrad(g, g, normalised)
	b.GroupNormGrad(dx, dgamma, dbeta, g, x, gamma, mean, rstd, groups)
}

// scores calls visit for every head of every sample and every query row i with the
// logits of that row; at is the offset of channel e of the head in a row.
func scores(q, k tensor.Tensor, heads int, scale float32, visit func(lse int, at func(row, e int) int, i int, logits []float64)) {
	l, c := q.Shape.Dim(1), q.Shape.Dim(2)
	width := c / heads
	logits := make([]float64, l)
	queries, keys := f(q), f(k)
	for pair := range q.Shape.Dim(0) * heads {
		n, h := pair/heads, pair%heads
		at := func(row, e int) int { return (n*l+row)*c + h*width + e }
		for i := range l {
			for j := range l {
				s := 0.0
				for e := range width {
					s += queries[at(i, e)] * keys[at(j, e)]
				}
				logits[j] = float64(scale) * s
			}
			visit(pair*l+i, at, i, logits)
		}
	}
}

// Attention leaves the logarithm of each row's sum of exponentials in lse.
func (Fused) Attention(y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	out, in, sums, width := f(y), f(v), f(lse), q.Shape.Dim(2)/heads
	clear(out)
	scores(q, k, heads, scale, func(row int, at func(row, e int) int, i int, logits []float64) {
		sum := 0.0
		for _, s := range logits {
			sum += math.Exp(s)
		}
		sums[row] = math.Log(sum)
		for j, s := range logits {
			p := math.Exp(s) / sum
			for e := range width {
				out[at(i, e)] += p * in[at(j, e)]
			}
		}
	})
}

// AttentionGrad uses y and lse as the fast backends do.
func (Fused) AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	width := q.Shape.Dim(2) / heads
	gq, gk, gv := f(dq), f(dk), f(dv)
	clear(gq)
	clear(gk)
	clear(gv)
	grad, out, sums, queries, keys, in := f(dy), f(y), f(lse), f(q), f(k), f(v)
	scores(q, k, heads, scale, func(row int, at func(row, e int) int, i int, logits []float64) {
		delta := 0.0
		for e := range width {
			delta += grad[at(i, e)] * out[at(i, e)]
		}
		for j, s := range logits {
			p, dp := math.Exp(s-sums[row]), 0.0
			for e := range width {
				dp += grad[at(i, e)] * in[at(j, e)]
				gv[at(j, e)] += p * grad[at(i, e)]
			}
			ds := float64(scale) * p * (dp - delta)
			for e := range width {
				gq[at(i, e)] += ds * keys[at(j, e)]
				gk[at(j, e)] += ds * queries[at(i, e)]
			}
		}
	})
}
