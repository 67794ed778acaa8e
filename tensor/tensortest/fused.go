package tensortest

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

func fusedCases() []testCase {
	var all []testCase
	for _, s := range normShapes() {
		x := values(50, s.x().Dims()...)
		for _, p := range []float32{0, 0.3} {
			all = append(all, groupNormSiLU(s, x, p), groupNormSiLUGrad(s, x, p))
		}
		for addends := range 3 {
			if addends == 0 && s.groups == s.c {
				continue // the sums are zero but for rounding
			}
			all = append(all, groupNormGradPlus(s, x, addends, addends == 1))
		}
	}
	for _, s := range []attentionShape{
		{1, 1, 1, 1}, {2, 4, 6, 2}, {1, 5, 3, 1}, {2, 16, 32, 1}, {2, 17, 24, 3}, {1, 64, 64, 2}, {1, 200, 40, 1}, {1, 130, 16, 2},
	} {
		all = append(all, s.forwardCase(), s.gradCase())
	}
	return all
}

func noGroupNormSiLU(be tensor.Backend) bool { _, ok := be.(tensor.GroupNormSiLU); return !ok }

const (
	fusedSeed   = 77
	fusedStream = rng.StreamDropout
)

// fusedMask is the dropout of the fused cases, 1 everywhere for p = 0.
func fusedMask(s normShape, p float32) (draws operand, mask []float64) {
	draws = operand{shape: shape(s.n)}
	for i := range s.n {
		draws.i = append(draws.i, int64(1000+3*i))
	}
	return draws, dropoutMask(draws.i, s.h*s.w*s.c, p, fusedSeed, fusedStream)
}

func fusedDropout(p float32, draws tensor.Tensor) tensor.Dropout {
	if p == 0 {
		return tensor.Dropout{}
	}
	return tensor.Dropout{P: p, Seed: fusedSeed, Stream: uint32(fusedStream), Draws: draws}
}

// silu is GroupNorm, SiLU and the mask.
func (s normShape) silu(x, gamma, beta, mask []float64) (y, mean, rstd []float64) {
	y, mean, rstd = s.forward(x, gamma, beta)
	for i, v := range y {
		y[i] = v * sigmoid(v) * mask[i]
	}
	return y, mean, rstd
}

func groupNormSiLU(s normShape, x operand, p float32) testCase {
	moments := result{shape: shape(s.n, s.groups)}
	draws, mask := fusedMask(s, p)
	return testCase{
		name: fmt.Sprintf("GroupNormSiLU/%v/%v", s, p), missing: noGroupNormSiLU, tol: tolSum,
		in:  []operand{x, values(51, s.affine()...), values(52, s.affine()...), draws},
		out: []result{{shape: s.x()}, moments, moments},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.(tensor.GroupNormSiLU).GroupNormSiLU(out[0], out[1], out[2], in[0], in[1], in[2], s.groups, normEps,
				fusedDropout(p, in[3]))
		},
		want: func(in [][]float64) [][]float64 {
			y, mean, rstd := s.silu(in[0], in[1], in[2], mask)
			return [][]float64{y, mean, rstd}
		},
	}
}

func groupNormSiLUGrad(s normShape, x operand, p float32) testCase {
	mean, rstd := s.moments(x.float64s())
	draws, mask := fusedMask(s, p)
	c := testCase{
		name: fmt.Sprintf("GroupNormSiLUGrad/%v/%v", s, p), missing: noGroupNormSiLU, tol: tolSum,
		in: []operand{
			values(53, s.x().Dims()...), x, values(51, s.affine()...), values(52, s.affine()...),
			rounded(mean, s.n, s.groups), rounded(rstd, s.n, s.groups), draws,
		},
		out: []result{{shape: s.x(), mayBe: []int{0}}, {shape: shape(s.affine()...)}, {shape: shape(s.affine()...)}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.(tensor.GroupNormSiLU).GroupNormSiLUGrad(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4], in[5],
				s.groups, fusedDropout(p, in[6]))
		},
		want: func(in [][]float64) [][]float64 {
			mean, rstd := s.moments(in[1])
			dy := make([]float64, len(in[0]))
			for i, v := range in[0] {
				g, c := s.group(i), s.channel(i)
				u := in[2][c]*(in[1][i]-mean[g])*rstd[g] + in[3][c]
				sig := sigmoid(u)
				dy[i] = v * mask[i] * (sig + u*sig*(1-sig))
			}
			return s.backward(dy, in[1], in[2], mean, rstd)
		},
	}
	if s.x().Len() <= 64 {
		c.numeric = func(in [][]float64) [][]float64 {
			dy, x, gamma, beta := in[0], in[1], in[2], in[3]
			f := func([]float64) []float64 { y, _, _ := s.silu(x, gamma, beta, mask); return y }
			return [][]float64{differences(x, dy, f), differences(gamma, dy, f), differences(beta, dy, f)}
		}
	}
	return c
}

func noFusedGradients(be tensor.Backend) bool { _, ok := be.(tensor.FusedGradients); return !ok }

// groupNormGradPlus is the gradient of a normalisation, with SiLU or without, plus some
// addends, and its sums over the pixels.
func groupNormGradPlus(s normShape, x operand, addends int, silu bool) testCase {
	c := groupNormGrad(s, x)
	c.in = append(c.in[:3:3], values(52, s.c), c.in[3], c.in[4])
	if silu {
		c = groupNormSiLUGrad(s, x, 0)
		c.in = c.in[:6]
	}
	c.name = fmt.Sprintf("GroupNormGradPlus/%v/%d", s, addends)
	c.missing, c.numeric = noFusedGradients, nil
	for i := range addends {
		c.out[0].mayBe = append(c.out[0].mayBe, len(c.in))
		c.in = append(c.in, values(54+i, s.x().Dims()...))
	}
	c.out = append(c.out, result{shape: shape(s.n, s.c)})
	c.run = func(be tensor.Backend, in, out []tensor.Tensor) {
		plus := tensor.NormPlus{Sums: out[3]}
		copy(plus.Addends[:], in[6:])
		be.(tensor.FusedGradients).GroupNormGradPlus(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4], in[5],
			s.groups, silu, tensor.Dropout{}, plus)
	}
	plain := c.want
	c.want = func(in [][]float64) [][]float64 {
		out := plain(in) // which reads no input behind those of the plain gradient
		sums := make([]float64, s.n*s.c)
		for i := range out[0] {
			for _, a := range in[6:] {
				out[0][i] += a[i]
			}
			sums[i/(s.h*s.w*s.c)*s.c+i%s.c] += out[0][i]
		}
		return append(out, sums)
	}
	return c
}

// attentionShape is [n, l, c] in heads.
type attentionShape struct{ n, l, c, heads int }

func noAttention(be tensor.Backend) bool { _, ok := be.(tensor.Attention); return !ok }

func (s attentionShape) x() tensor.Shape { return shape(s.n, s.l, s.c) }
func (s attentionShape) scale() float64  { return float64(s.scale32()) }
func (s attentionShape) scale32() float32 {
	return float32(1 / math.Sqrt(float64(s.c/s.heads)))
}

// at is the index of channel k of a head in row r of sample n.
func (s attentionShape) at(n, head, r, k int) int { return (n*s.l+r)*s.c + head*(s.c/s.heads) + k }

// probabilities returns softmax(q k' scale), [n, heads, l, l].
func (s attentionShape) probabilities(q, k []float64) []float64 {
	scores := make([]float64, s.n*s.heads*s.l*s.l)
	for i := range scores {
		n, head, r, c := i/(s.heads*s.l*s.l), i/(s.l*s.l)%s.heads, i/s.l%s.l, i%s.l
		for d := range s.c / s.heads {
			scores[i] += q[s.at(n, head, r, d)] * k[s.at(n, head, c, d)]
		}
	}
	return softmax(scores, s.l, s.scale())
}

// weigh returns out[r] = sum over c of p[r,c] v[c], or with p transposed.
func (s attentionShape) weigh(p, v []float64, transposed bool) []float64 {
	out := make([]float64, s.x().Len())
	for i, w := range p {
		n, head, r, c := i/(s.heads*s.l*s.l), i/(s.l*s.l)%s.heads, i/s.l%s.l, i%s.l
		if transposed {
			r, c = c, r
		}
		for d := range s.c / s.heads {
			out[s.at(n, head, r, d)] += w * v[s.at(n, head, c, d)]
		}
	}
	return out
}

func (s attentionShape) forward(q, k, v []float64) []float64 {
	return s.weigh(s.probabilities(q, k), v, false)
}

func (s attentionShape) backward(q, k, v, dy []float64) [][]float64 {
	p := s.probabilities(q, k)
	dp := make([]float64, len(p))
	for i := range dp {
		n, head, r, c := i/(s.heads*s.l*s.l), i/(s.l*s.l)%s.heads, i/s.l%s.l, i%s.l
		for d := range s.c / s.heads {
			dp[i] += dy[s.at(n, head, r, d)] * v[s.at(n, head, c, d)]
		}
	}
	ds := softmaxGrad(dp, p, s.l, s.scale())
	return [][]float64{s.weigh(ds, k, false), s.weigh(ds, q, true), s.weigh(p, dy, true)}
}

func (s attentionShape) forwardCase() testCase {
	dims := s.x().Dims()
	return testCase{
		name: fmt.Sprintf("Attention/%v", s), missing: noAttention, tol: tolSum,
		in:  []operand{values(80, dims...), values(81, dims...), values(82, dims...)},
		out: []result{{shape: s.x()}, {shape: shape(s.n, s.heads, s.l)}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.(tensor.Attention).Attention(out[0], out[1], in[0], in[1], in[2], s.heads, s.scale32())
		},
		want: func(in [][]float64) [][]float64 { return [][]float64{s.forward(in[0], in[1], in[2])} },
	}
}

// gradCase calls Attention first: what lse holds is the backend's own affair.
func (s attentionShape) gradCase() testCase {
	dims := s.x().Dims()
	c := testCase{
		name: fmt.Sprintf("AttentionGrad/%v", s), missing: noAttention, tol: tolSum,
		in:  []operand{values(80, dims...), values(81, dims...), values(82, dims...), values(83, dims...)},
		out: []result{{shape: s.x()}, {shape: s.x()}, {shape: s.x()}, {shape: s.x()}, {shape: shape(s.n, s.heads, s.l)}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			a := be.(tensor.Attention)
			a.Attention(out[3], out[4], in[0], in[1], in[2], s.heads, s.scale32())
			a.AttentionGrad(out[0], out[1], out[2], in[3], out[3], out[4], in[0], in[1], in[2], s.heads, s.scale32())
		},
	}
	c.want = func(in [][]float64) [][]float64 { return s.backward(in[0], in[1], in[2], in[3]) }
	if s.x().Len() <= 64 {
		c.numeric = func(in [][]float64) [][]float64 {
			q, k, v, dy := in[0], in[1], in[2], in[3]
			f := func([]float64) []float64 { return s.forward(q, k, v) }
			return [][]float64{differences(q, dy, f), differences(k, dy, f), differences(v, dy, f)}
		}
	}
	return c
}

// testReplay records a few operations and requires the same bits when they are
// replayed on other content.
func testReplay(t *testing.T, be tensor.Backend) {
	t.Helper()
	r, ok := be.(tensor.Replayer)
	if !ok {
		t.Skip("the backend does not record")
	}
	s := shape(4, 9)
	c := testCase{in: []operand{values(90, 4, 9), values(91, 4, 9)}, out: []result{{shape: s}, {shape: s}}}
	c.run = func(be tensor.Backend, in, out []tensor.Tensor) {
		be.SiLU(out[0], in[0])
		be.Add(out[1], out[0], in[1])
	}
	p := c.prepare(t, be, variant{-1, -1})
	replay, err := r.Record(func() error { c.run(be, p.in, p.out); return nil })
	require.NoError(t, err)
	c.in = []operand{values(92, 4, 9), values(93, 4, 9)}
	want := p.run(t)
	c.run = func(tensor.Backend, []tensor.Tensor, []tensor.Tensor) { require.NoError(t, replay()) }
	got := p.run(t)
	for i := range want {
		requireBits(t, want[i], got[i], "output %d", i)
	}
}
