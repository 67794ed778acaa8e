package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

func matMulCases() []testCase {
	sizes := []struct{ batch, m, n, k int }{
		{0, 1, 1, 1},
		{0, 5, 3, 7},
		{0, 8, 32, 16},
		{0, 33, 35, 31},
		{0, 64, 64, 64},
		{0, 1, 128, 40},
		{0, 9, 1, 65},
		{0, 4, 6, 0},
		{0, 0, 3, 3},
		{0, 70, 50, 300},
		{1, 4, 4, 4},
		{3, 5, 3, 7},
		{2, 16, 16, 32},
		{5, 17, 34, 9},
	}
	var all []testCase
	for _, s := range sizes {
		for i := range 8 {
			args := tensor.MatMulArgs{TransA: i&1 != 0, TransB: i&2 != 0, Alpha: 1}
			if i&4 != 0 {
				args.Alpha, args.Beta = -0.5, 0.75
			}
			all = append(all, matMulCase(s.batch, s.m, s.n, s.k, args))
		}
	}
	nan := matMulCase(0, 9, 40, 6, tensor.MatMulArgs{Alpha: 1})
	nan.name = "MatMul/zero times NaN"
	nan.in[0] = nan.in[0].mapped(func(float32) float32 { return 0 })
	nan.in[1] = nan.in[1].with(7, float32(math.NaN())).with(45, float32(math.Inf(1)))
	return append(all, nan)
}

// matMulCase is one product; batch 0 means plain matrices.
func matMulCase(batch, m, n, k int, args tensor.MatMulArgs) testCase {
	dims := func(r, c int, transposed bool) []int {
		if transposed {
			r, c = c, r
		}
		if batch > 0 {
			return []int{batch, r, c}
		}
		return []int{r, c}
	}
	dst := values(32, dims(m, n, false)...)
	out := result{shape: dst.shape}
	if args.Beta != 0 {
		out.starts = 3
	}
	return testCase{
		name: fmt.Sprintf("MatMul/%dx%dx%dx%d/%t,%t,beta=%v", batch, m, n, k, args.TransA, args.TransB, args.Beta),
		in:   []operand{values(30, dims(m, k, args.TransA)...), values(31, dims(k, n, args.TransB)...), dst},
		out:  []result{out}, tol: tolSum, multiplies: []int{0, 1},
		run: func(be tensor.Backend, in, out []tensor.Tensor) { be.MatMul(out[0], in[0], in[1], args) },
		want: func(in [][]float64) [][]float64 {
			return [][]float64{matMul(in[0], in[1], in[2], max(1, batch), m, n, k, args)}
		},
	}
}

func matMul(a, b, dst []float64, batch, m, n, k int, args tensor.MatMulArgs) []float64 {
	out := make([]float64, batch*m*n)
	for i := range out {
		s, r, c := i/(m*n), i/n%m, i%n
		var sum float64
		for p := range k {
			ai, bi := r*k+p, p*n+c
			if args.TransA {
				ai = p*m + r
			}
			if args.TransB {
				bi = c*k + p
			}
			sum += a[s*m*k+ai] * b[s*k*n+bi]
		}
		out[i] = float64(args.Alpha) * sum
		if args.Beta != 0 {
			out[i] += float64(args.Beta) * dst[i]
		}
	}
	return out
}
