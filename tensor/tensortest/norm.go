package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

const normEps = 1e-5

// normShape is a group normalisation's sizes. each gives every sample a gamma and a
// beta of its own.
type normShape struct {
	n, h, w, c, groups int
	each               bool
}

func (s normShape) String() string {
	name := fmt.Sprintf("%dx%dx%dx%d,g%d", s.n, s.h, s.w, s.c, s.groups)
	if s.each {
		name += ",each"
	}
	return name
}

// affine is the shape of gamma and beta, and channel where element i's are.
func (s normShape) affine() []int {
	if s.each {
		return []int{s.n, s.c}
	}
	return []int{s.c}
}

func (s normShape) channel(i int) int {
	if s.each {
		return i/(s.h*s.w*s.c)*s.c + i%s.c
	}
	return i % s.c
}

func (s normShape) x() tensor.Shape { return shape(s.n, s.h, s.w, s.c) }

// group is the number, among N*groups, that element i belongs to.
func (s normShape) group(i int) int {
	return i/(s.h*s.w*s.c)*s.groups + i%s.c/(s.c/s.groups)
}

func normShapes() []normShape {
	all := []normShape{
		{1, 2, 2, 1, 1, false},
		{2, 1, 1, 8, 2, false},
		{2, 2, 3, 6, 3, false},
		{1, 3, 3, 4, 4, false},
		{2, 3, 2, 5, 1, false},
		{2, 8, 8, 32, 8, false},
		{2, 8, 8, 32, 32, false},
		{3, 4, 4, 64, 1, false},
		{1, 5, 7, 36, 9, false},
		{2, 4, 4, 96, 32, false},
		{1, 16, 17, 40, 8, false},
		// So large that a backend may divide the channels, evenly or not.
		{1, 32, 40, 128, 8, false},
		{1, 16, 32, 192, 3, false},
	}
	return append(all,
		normShape{2, 2, 3, 6, 3, true},
		normShape{3, 3, 2, 5, 1, true},
		normShape{2, 8, 8, 32, 8, true},
		normShape{3, 5, 7, 36, 9, true},
		normShape{2, 16, 32, 192, 3, true},
	)
}

func normCases() []testCase {
	var all []testCase
	for _, s := range normShapes() {
		x := values(50, s.x().Dims()...).mapped(func(v float32) float32 { return 2*v + 0.5 })
		all = append(all, groupNorm(s, x), groupNormGrad(s, x))
	}
	s := normShape{2, 8, 8, 32, 8, false}
	far := groupNorm(s, values(50, s.x().Dims()...).mapped(func(v float32) float32 { return 1000 + v }))
	far.name, far.tol = "GroupNorm/mean far from zero", 2e-4 // the mean's own rounding
	flat := groupNorm(s, values(50, s.x().Dims()...).mapped(func(float32) float32 { return 0.3 }))
	flat.name = "GroupNorm/constant"
	nan := groupNorm(s, values(50, s.x().Dims()...).with(100, float32(math.NaN())))
	nan.name = "GroupNorm/NaN"
	return append(all, far, flat, nan)
}

func groupNorm(s normShape, x operand) testCase {
	moments := result{shape: shape(s.n, s.groups)}
	return testCase{
		name: fmt.Sprintf("GroupNorm/%v", s), in: []operand{x, values(51, s.affine()...), values(52, s.affine()...)},
		out: []result{{shape: s.x(), mayBe: []int{0}}, moments, moments}, tol: tolSum,
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.GroupNorm(out[0], out[1], out[2], in[0], in[1], in[2], s.groups, normEps)
		},
		want: func(in [][]float64) [][]float64 {
			y, mean, rstd := s.forward(in[0], in[1], in[2])
			return [][]float64{y, mean, rstd}
		},
	}
}

func (s normShape) forward(x, gamma, beta []float64) (y, mean, rstd []float64) {
	mean, rstd = s.moments(x)
	y = make([]float64, len(x))
	for i, v := range x {
		g := s.group(i)
		y[i] = gamma[s.channel(i)]*(v-mean[g])*rstd[g] + beta[s.channel(i)]
	}
	return y, mean, rstd
}

func (s normShape) moments(x []float64) (mean, rstd []float64) {
	mean, rstd = make([]float64, s.n*s.groups), make([]float64, s.n*s.groups)
	count := float64(s.h * s.w * s.c / s.groups)
	for i, v := range x {
		mean[s.group(i)] += v / count
	}
	for i, v := range x {
		d := v - mean[s.group(i)]
		rstd[s.group(i)] += d * d / count
	}
	for i, v := range rstd {
		rstd[i] = 1 / math.Sqrt(v+float64(float32(normEps)))
	}
	return mean, rstd
}

// groupNormGrad gets its mean and rstd from the reference, rounded to F32.
func groupNormGrad(s normShape, x operand) testCase {
	mean, rstd := s.moments(x.float64s())
	c := testCase{
		name: fmt.Sprintf("GroupNormGrad/%v", s),
		in: []operand{
			values(53, s.x().Dims()...), x, values(51, s.affine()...),
			rounded(mean, s.n, s.groups), rounded(rstd, s.n, s.groups),
		},
		out: []result{{shape: s.x(), mayBe: []int{0}}, {shape: shape(s.affine()...)}, {shape: shape(s.affine()...)}}, tol: tolSum,
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.GroupNormGrad(out[0], out[1], out[2], in[0], in[1], in[2], in[3], in[4], s.groups)
		},
		want: func(in [][]float64) [][]float64 {
			mean, rstd := s.moments(in[1])
			return s.backward(in[0], in[1], in[2], mean, rstd)
		},
	}
	if s.x().Len() <= 64 {
		c.numeric = func(in [][]float64) [][]float64 {
			dy, x, gamma, beta := in[0], in[1], in[2], make([]float64, len(in[2]))
			f := func([]float64) []float64 { y, _, _ := s.forward(x, gamma, beta); return y }
			return [][]float64{differences(x, dy, f), differences(gamma, dy, f), differences(beta, dy, f)}
		}
	}
	return c
}

// backward is dx, dgamma, dbeta: with u = gamma dy and the normalised value h,
// dx = rstd (u - mean(u) - h mean(u h)).
func (s normShape) backward(dy, x, gamma, mean, rstd []float64) [][]float64 {
	dx, dgamma, dbeta := make([]float64, len(x)), make([]float64, len(gamma)), make([]float64, len(gamma))
	mu, muh := make([]float64, s.n*s.groups), make([]float64, s.n*s.groups)
	count := float64(s.h * s.w * s.c / s.groups)
	for i, v := range x {
		g, c := s.group(i), s.channel(i)
		h := (v - mean[g]) * rstd[g]
		dgamma[c] += dy[i] * h
		dbeta[c] += dy[i]
		mu[g] += gamma[c] * dy[i] / count
		muh[g] += gamma[c] * dy[i] * h / count
	}
	for i, v := range x {
		g := s.group(i)
		h := (v - mean[g]) * rstd[g]
		dx[i] = rstd[g] * (gamma[s.channel(i)]*dy[i] - mu[g] - h*muh[g])
	}
	return [][]float64{dx, dgamma, dbeta}
}

// rounded is an operand of float64 values rounded to F32.
func rounded(v []float64, dims ...int) operand {
	o := operand{shape: shape(dims...), f: make([]float32, len(v))}
	for i, x := range v {
		o.f[i] = float32(x)
	}
	return o
}
