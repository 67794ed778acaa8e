package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

func softmaxCases() []testCase {
	var all []testCase
	for _, d := range [][3]int{{1, 1, 1}, {2, 3, 5}, {1, 4, 4}, {2, 16, 16}, {3, 7, 33}, {2, 64, 64}, {1, 2, 1024}} {
		x := values(60, d[:]...)
		all = append(all, softmaxCase(fmt.Sprintf("Softmax/%v", d), x), softmaxGradCase(d))
	}
	large := softmaxCase("Softmax/large", values(61, 4, 20).mapped(func(v float32) float32 { return 1e4 * v }))
	nan := softmaxCase("Softmax/NaN", values(62, 3, 19).with(20, float32(math.NaN())))
	return append(all, large, nan)
}

const softmaxScale = 0.6

func softmaxCase(name string, x operand) testCase {
	width := x.shape.Dim(-1)
	return testCase{
		name: name, in: []operand{x}, out: []result{{shape: x.shape, mayBe: []int{0}}}, tol: 4 * tolElement,
		run: func(be tensor.Backend, in, out []tensor.Tensor) { be.Softmax(out[0], in[0], softmaxScale) },
		want: func(in [][]float64) [][]float64 {
			return [][]float64{softmax(in[0], width, float64(float32(softmaxScale)))}
		},
	}
}

func softmax(x []float64, width int, scale float64) []float64 {
	y := make([]float64, len(x))
	for lo := 0; lo < len(x); lo += width {
		top, sum := math.Inf(-1), 0.0
		for _, v := range x[lo : lo+width] {
			top = max(top, scale*v)
		}
		for i, v := range x[lo : lo+width] {
			y[lo+i] = math.Exp(scale*v - top)
			sum += y[lo+i]
		}
		for i := range width {
			y[lo+i] /= sum
		}
	}
	return y
}

// softmaxGrad is scale y (dy - sum(dy y)).
func softmaxGrad(dy, y []float64, width int, scale float64) []float64 {
	dx := make([]float64, len(y))
	for lo := 0; lo < len(y); lo += width {
		var dot float64
		for i := lo; i < lo+width; i++ {
			dot += dy[i] * y[i]
		}
		for i := lo; i < lo+width; i++ {
			dx[i] = scale * y[i] * (dy[i] - dot)
		}
	}
	return dx
}

func softmaxGradCase(d [3]int) testCase {
	scale := float64(float32(softmaxScale))
	x := values(60, d[:]...).float64s()
	y := rounded(softmax(x, d[2], scale), d[:]...)
	c := testCase{
		name: fmt.Sprintf("SoftmaxGrad/%v", d), in: []operand{values(63, d[:]...), y},
		out: []result{{shape: y.shape, mayBe: []int{0}}}, tol: tolSum,
		run: func(be tensor.Backend, in, out []tensor.Tensor) { be.SoftmaxGrad(out[0], in[0], in[1], softmaxScale) },
		want: func(in [][]float64) [][]float64 {
			return [][]float64{softmaxGrad(in[0], in[1], d[2], scale)}
		},
	}
	if len(x) <= 64 {
		c.numeric = func(in [][]float64) [][]float64 {
			return [][]float64{differences(x, in[0], func(x []float64) []float64 { return softmax(x, d[2], scale) })}
		}
	}
	return c
}
