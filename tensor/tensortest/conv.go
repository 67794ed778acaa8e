package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// convShape is the sizes of one convolution.
type convShape struct {
	n, h, w, ci, co int
	tensor.Conv
}

func (s convShape) String() string {
	return fmt.Sprintf("%dx%dx%dx%d-%d,k%ds%dp%d%d", s.n, s.h, s.w, s.ci, s.co, s.Kernel, s.Stride, s.PadLo, s.PadHi)
}

// small says that finite differences are affordable.
func (s convShape) small() bool { return s.n*s.h*s.w*s.ci*s.co <= 1500 }

var (
	k1   = tensor.Conv{Kernel: 1, Stride: 1}
	k1s2 = tensor.Conv{Kernel: 1, Stride: 2}
	k3   = tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	k3v  = tensor.Conv{Kernel: 3, Stride: 1}                     // no padding
	k3s2 = tensor.Conv{Kernel: 3, Stride: 2, PadLo: 1, PadHi: 1} // downsample_padding 1
	k3d0 = tensor.Conv{Kernel: 3, Stride: 2, PadLo: 0, PadHi: 1} // downsample_padding 0
)

func convShapes() []convShape {
	return []convShape{
		{1, 1, 1, 1, 1, k1},
		{1, 1, 1, 2, 3, k3},
		{2, 2, 2, 3, 2, k3},
		{1, 4, 4, 2, 3, k3},
		{2, 3, 5, 3, 4, k3},
		{1, 5, 3, 4, 3, k3v},
		{2, 4, 4, 3, 2, k3s2},
		{2, 4, 4, 3, 2, k3d0},
		{1, 5, 7, 2, 3, k3s2},
		{1, 7, 5, 2, 3, k3d0},
		{2, 3, 4, 3, 5, k1},
		{1, 5, 4, 3, 5, k1s2},
		{2, 8, 8, 3, 32, k3}, // first layer
		{2, 8, 8, 32, 3, k3}, // last layer
		{2, 8, 8, 1, 16, k3},
		{2, 8, 8, 16, 1, k3},
		{3, 2, 2, 33, 35, k3},
		{3, 1, 1, 40, 24, k3},
		{2, 4, 4, 64, 64, k3},
		{2, 8, 8, 32, 32, k3},
		{1, 9, 13, 31, 17, k3},
		{1, 6, 40, 8, 16, k3},
		{2, 8, 8, 32, 48, k3s2},
		{2, 8, 8, 48, 32, k3d0},
		{1, 16, 16, 8, 9, k3d0},
		{1, 2, 2, 16, 16, k3s2},
		{2, 8, 8, 33, 64, k1},
		{3, 4, 4, 96, 32, k1},
		{2, 7, 7, 12, 20, k1s2},
		{2, 7, 9, 33, 40, k3}, // both sizes odd
		{2, 12, 11, 40, 33, k3},
		{1, 17, 18, 64, 32, k3},
		{5, 8, 8, 17, 40, k3}, // more pixels than a block of sums
		{5, 8, 8, 24, 33, k1},
	}
}

// each calls f with the indices of every product of the convolution.
func (s convShape) each(f func(y, x, w int)) {
	oh, ow := s.OutSize(s.h), s.OutSize(s.w)
	for p := range s.n * oh * ow {
		n, oy, ox := p/(oh*ow), p/ow%oh, p%ow
		for t := range s.Kernel * s.Kernel {
			iy, ix := oy*s.Stride+t/s.Kernel-s.PadLo, ox*s.Stride+t%s.Kernel-s.PadLo
			if iy < 0 || iy >= s.h || ix < 0 || ix >= s.w {
				continue
			}
			for i := range s.ci {
				for o := range s.co {
					f(p*s.co+o, ((n*s.h+iy)*s.w+ix)*s.ci+i, (t*s.ci+i)*s.co+o)
				}
			}
		}
	}
}

func (s convShape) x() tensor.Shape { return shape(s.n, s.h, s.w, s.ci) }
func (s convShape) w4() tensor.Shape {
	return shape(s.Kernel, s.Kernel, s.ci, s.co)
}
func (s convShape) y() tensor.Shape { return shape(s.n, s.OutSize(s.h), s.OutSize(s.w), s.co) }

func (s convShape) forward(x, w []float64) []float64 {
	y := make([]float64, s.y().Len())
	s.each(func(yi, xi, wi int) { y[yi] += x[xi] * w[wi] })
	return y
}

func convCases() []testCase {
	var all []testCase
	for _, s := range convShapes() {
		x, w, dy := values(40, s.x().Dims()...), values(41, s.w4().Dims()...), values(42, s.y().Dims()...)
		for extras := range 8 {
			if extras != 1 && extras != 7 && !s.small() {
				continue
			}
			all = append(all, convForward(s, x, w, extras))
		}
		if s.pointwise() {
			all = append(all, convAddInputGrad(s, dy, w))
		}
		all = append(all, convInputGrad(s, dy, w), convWeightGrad(s, x, dy, false), convWeightGrad(s, x, dy, true))
	}
	return append(all, convSpecial()...)
}

// convForward is one forward convolution; the bits of extras say which of bias,
// perSample and residual are present.
func convForward(s convShape, x, w operand, extras int) testCase {
	bias, per, res := values(43, s.co), values(44, s.n, s.co), values(45, s.y().Dims()...)
	c := testCase{
		name: fmt.Sprintf("Conv2D/%v/%03b", s, extras), in: []operand{x, w, bias, per, res},
		out: []result{{shape: s.y()}}, tol: tolSum, multiplies: []int{0, 1},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			var b, p, r tensor.Tensor
			if extras&1 != 0 {
				b = in[2]
			}
			if extras&2 != 0 {
				p = in[3]
			}
			if extras&4 != 0 {
				r = in[4]
			}
			be.Conv2D(out[0], in[0], in[1], b, p, r, s.Conv)
		},
		want: func(in [][]float64) [][]float64 {
			y := s.forward(in[0], in[1])
			for i := range y {
				if extras&1 != 0 {
					y[i] += in[2][i%s.co]
				}
				if extras&2 != 0 {
					y[i] += in[3][i/(len(y)/s.n)*s.co+i%s.co]
				}
				if extras&4 != 0 {
					y[i] += in[4][i]
				}
			}
			return [][]float64{y}
		},
	}
	if extras&4 != 0 {
		c.out[0].mayBe = []int{4}
	}
	return c
}

func (s convShape) pointwise() bool { return s.Kernel == 1 && s.Stride == 1 && s.PadLo+s.PadHi == 0 }

// convAddInputGrad adds to what dx holds.
func convAddInputGrad(s convShape, dy, w operand) testCase {
	c := convInputGrad(s, dy, w)
	c.name = fmt.Sprintf("Conv2DAddInputGrad/%v", s)
	c.missing, c.numeric = noFusedGradients, nil
	c.in = append(c.in, values(46, s.x().Dims()...))
	c.out[0].starts = 3
	c.run = func(be tensor.Backend, in, out []tensor.Tensor) {
		be.(tensor.FusedGradients).Conv2DAddInputGrad(out[0], in[0], in[1], s.Conv)
	}
	plain := c.want
	c.want = func(in [][]float64) [][]float64 {
		out := plain(in)
		for i, v := range in[2] {
			out[0][i] += v
		}
		return out
	}
	return c
}

func convInputGrad(s convShape, dy, w operand) testCase {
	c := testCase{
		name: fmt.Sprintf("Conv2DInputGrad/%v", s), in: []operand{dy, w}, out: []result{{shape: s.x()}}, tol: tolSum,
		multiplies: []int{0, 1},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.Conv2DInputGrad(out[0], in[0], in[1], s.Conv)
		},
		want: func(in [][]float64) [][]float64 {
			dx := make([]float64, s.x().Len())
			s.each(func(yi, xi, wi int) { dx[xi] += in[0][yi] * in[1][wi] })
			return [][]float64{dx}
		},
	}
	if s.small() {
		c.numeric = func(in [][]float64) [][]float64 {
			x := values(46, s.x().Dims()...).float64s()
			return [][]float64{differences(x, in[0], func(x []float64) []float64 { return s.forward(x, in[1]) })}
		}
	}
	return c
}

func convWeightGrad(s convShape, x, dy operand, bias bool) testCase {
	c := testCase{
		name: fmt.Sprintf("Conv2DWeightGrad/%v/bias=%t", s, bias), in: []operand{x, dy},
		out: []result{{shape: s.w4()}}, tol: tolSum, multiplies: []int{0, 1},
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			var db tensor.Tensor
			if bias {
				db = out[1]
			}
			be.Conv2DWeightGrad(out[0], db, in[0], in[1], s.Conv)
		},
		want: func(in [][]float64) [][]float64 {
			dw := make([]float64, s.w4().Len())
			s.each(func(yi, xi, wi int) { dw[wi] += in[0][xi] * in[1][yi] })
			if bias {
				return [][]float64{dw, sumChannels(in[1], 1, s.co)}
			}
			return [][]float64{dw}
		},
	}
	if bias {
		c.out = append(c.out, result{shape: shape(s.co)})
	} else if s.small() {
		c.numeric = func(in [][]float64) [][]float64 {
			w := values(47, s.w4().Dims()...).float64s()
			return [][]float64{differences(w, in[1], func(w []float64) []float64 { return s.forward(in[0], w) })}
		}
	}
	return c
}

// convSpecial: a NaN pixel reaches the outputs whose window holds it, and no
// others; a zero does not hide a NaN.
func convSpecial() []testCase {
	nan := float32(math.NaN())
	zero := func(float32) float32 { return 0 }
	s := convShape{2, 6, 5, 9, 40, k3}
	x := values(48, s.x().Dims()...).with(s.x().Len()/2+3, nan)
	hole := convForward(s, x, values(41, s.w4().Dims()...), 1)
	hole.name = "Conv2D/NaN pixel"
	s.Conv = k1
	hidden := convForward(s, values(48, s.x().Dims()...).mapped(zero), values(41, s.w4().Dims()...).with(50, nan), 1)
	hidden.name = "Conv2D/zero times NaN"
	grad := convWeightGrad(s, values(48, s.x().Dims()...).mapped(zero), values(42, s.y().Dims()...).with(50, nan), true)
	grad.name = "Conv2DWeightGrad/zero times NaN"
	s.Conv = k3
	back := convInputGrad(s, values(42, s.y().Dims()...).with(s.y().Len()/2+3, nan), values(41, s.w4().Dims()...))
	back.name = "Conv2DInputGrad/NaN pixel"
	return []testCase{hole, hidden, grad, back}
}
