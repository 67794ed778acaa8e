package tensortest

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

func scaleShiftCases() []testCase {
	var all []testCase
	for _, s := range []scaleShiftShape{{1, 1}, {3, 5}, {2, 32}, {17, 48}, {40, 129}} {
		all = append(all, s.forwardCase(), s.gradCase())
	}
	return all
}

// scaleShiftShape is n samples of c channels.
type scaleShiftShape struct{ n, c int }

func (s scaleShiftShape) each() tensor.Shape { return shape(s.n, s.c) }

// forward is gammas and betas, one behind the other.
func (s scaleShiftShape) forward(gamma, beta, e []float64) []float64 {
	out := make([]float64, 2*s.n*s.c)
	for i := range s.n * s.c {
		n, c := i/s.c, i%s.c
		out[i] = gamma[c] * (1 + e[2*n*s.c+c])
		out[s.n*s.c+i] = beta[c]*(1+e[2*n*s.c+c]) + e[(2*n+1)*s.c+c]
	}
	return out
}

func (s scaleShiftShape) forwardCase() testCase {
	return testCase{
		name: fmt.Sprintf("ScaleShift/%dx%d", s.n, s.c), tol: tolElement,
		in:  []operand{values(90, s.c), values(91, s.c), values(92, s.n, 2*s.c)},
		out: []result{{shape: s.each()}, {shape: s.each()}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.ScaleShift(out[0], out[1], in[0], in[1], in[2])
		},
		want: func(in [][]float64) [][]float64 {
			out := s.forward(in[0], in[1], in[2])
			return [][]float64{out[:s.n*s.c], out[s.n*s.c:]}
		},
	}
}

func (s scaleShiftShape) gradCase() testCase {
	c := testCase{
		name: fmt.Sprintf("ScaleShiftGrad/%dx%d", s.n, s.c), tol: tolSum,
		in: []operand{
			values(93, s.n, s.c), values(94, s.n, s.c), values(90, s.c), values(91, s.c), values(92, s.n, 2*s.c),
		},
		out: []result{{shape: shape(s.c)}, {shape: shape(s.c)}, {shape: shape(s.n, 2*s.c)}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.ScaleShiftGrad(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4])
		},
		want: func(in [][]float64) [][]float64 {
			dgamma, dbeta, de := make([]float64, s.c), make([]float64, s.c), make([]float64, 2*s.n*s.c)
			for i, dg := range in[0] {
				n, c, db := i/s.c, i%s.c, in[1][i]
				scale := 1 + in[4][2*n*s.c+c]
				dgamma[c] += dg * scale
				dbeta[c] += db * scale
				de[2*n*s.c+c] = dg*in[2][c] + db*in[3][c]
				de[(2*n+1)*s.c+c] = db
			}
			return [][]float64{dgamma, dbeta, de}
		},
	}
	if s.n*s.c <= 64 {
		c.numeric = func(in [][]float64) [][]float64 {
			gamma, beta, e := in[2], in[3], in[4]
			dy := append(append([]float64(nil), in[0]...), in[1]...)
			f := func([]float64) []float64 { return s.forward(gamma, beta, e) }
			return [][]float64{differences(gamma, dy, f), differences(beta, dy, f), differences(e, dy, f)}
		}
	}
	return c
}
