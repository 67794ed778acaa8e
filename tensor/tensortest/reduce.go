package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

func reduceCases() []testCase {
	var all []testCase
	for _, d := range [][4]int{{1, 1, 1, 1}, {2, 3, 5, 7}, {3, 4, 4, 32}, {2, 9, 9, 33}, {2, 17, 19, 6}, {0, 2, 2, 3}} {
		n, per, c := d[0], d[1]*d[2]*d[3], d[3]
		x, y := values(20, d[:]...), values(21, d[:]...)
		sum := func(be tensor.Backend, in, out []tensor.Tensor) { be.SumChannels(out[0], in[0]) }
		all = append(all, testCase{
			name: fmt.Sprintf("SumChannels/all/%v", x.shape), in: []operand{x}, out: []result{{shape: shape(c)}}, run: sum,
			want: func(in [][]float64) [][]float64 { return [][]float64{sumChannels(in[0], 1, c)} }, tol: tolSum,
		}, testCase{
			name: fmt.Sprintf("SumChannels/sample/%v", x.shape), in: []operand{x}, out: []result{{shape: shape(n, c)}}, run: sum,
			want: func(in [][]float64) [][]float64 { return [][]float64{sumChannels(in[0], n, c)} }, tol: tolSum,
		}, testCase{
			name: fmt.Sprintf("MSE/loss/%v", x.shape), in: []operand{x, y}, out: []result{{shape: shape(n)}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) {
				be.MSE(out[0], tensor.Tensor{}, in[0], in[1], 3)
			},
			want: func(in [][]float64) [][]float64 { return mse(in, n, per, 3)[:1] }, tol: tolSum,
		}, testCase{
			name: fmt.Sprintf("MSE/gradient/%v", x.shape), in: []operand{x, y},
			out: []result{{shape: shape(n)}, {shape: x.shape, mayBe: []int{0, 1}}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) {
				be.MSE(out[0], out[1], in[0], in[1], 0.25)
			},
			want: func(in [][]float64) [][]float64 { return mse(in, n, per, 0.25) }, tol: tolSum,
		})
	}
	return all
}

// sumChannels sums x over all but the channels within each of n parts.
func sumChannels(x []float64, n, c int) []float64 {
	out := make([]float64, n*c)
	for i, v := range x {
		out[i/(len(x)/n)*c+i%c] += v
	}
	return out
}

func mse(in [][]float64, n, per int, scale float64) [][]float64 {
	loss, grad := make([]float64, n), make([]float64, n*per)
	for i := range grad {
		e := in[0][i] - in[1][i]
		loss[i/per] += e * e
		grad[i] = 2 * scale * e
	}
	return [][]float64{loss, grad}
}

// randomCases check Normal and Dropout against package rng.
func randomCases() []testCase {
	const seed = 0x1234_5678_9abc_def0
	stream := rng.StreamDropout.With(5)
	src := rng.New(seed, stream)
	draws := integers(3, 1<<40+7, 0)
	var all []testCase
	for _, per := range []int{1, 2, 5, 48, 333, 17_003} {
		x := values(22, 3, per)
		out := []result{{shape: x.shape}}
		all = append(all, testCase{
			name: fmt.Sprintf("Normal/%d", per), in: []operand{draws}, out: out, normal: true,
			run: func(be tensor.Backend, in, out []tensor.Tensor) { be.Normal(out[0], in[0], seed, uint32(stream)) },
			want: func([][]float64) [][]float64 {
				var all []float64
				for _, d := range draws.i {
					v := make([]float32, per)
					src.Normal(v, uint64(d))
					all = append(all, operand{shape: shape(per), f: v}.float64s()...)
				}
				return [][]float64{all}
			},
		})
		for _, p := range []float32{0, 0.1, 0.5, 0.999} {
			all = append(all, dropoutCase(x, draws, p, seed, stream))
		}
	}
	edge := dropoutCase(values(22, 3, 5000), draws, wordAsProbability(src, uint64(draws.i[0]), 5000), seed, stream)
	edge.name = "Dropout/a word equal to the threshold is kept"
	return append(all, edge)
}

// wordAsProbability returns w/2^32 for a word w among the draw's first n that
// such a p represents exactly.
func wordAsProbability(src rng.Source, draw uint64, n int) float32 {
	for j := range n {
		w := src.Block(draw, uint32(j/4))[j%4]
		if p := float32(float64(w) / (1 << 32)); p < 1 && float64(p)*(1<<32) == float64(w) {
			return p
		}
	}
	panic("tensortest: no word fits a float32")
}

func dropoutCase(x, draws operand, p float32, seed uint64, stream rng.Stream) testCase {
	per := x.shape.Dim(1)
	return testCase{
		name: fmt.Sprintf("Dropout/%d/%v", per, p), in: []operand{x, draws},
		out: []result{{shape: x.shape, mayBe: []int{0}}}, tol: tolElement,
		run: func(be tensor.Backend, in, out []tensor.Tensor) {
			be.Dropout(out[0], in[0], in[1], p, seed, uint32(stream))
		},
		want: func(in [][]float64) [][]float64 {
			mask := dropoutMask(draws.i, per, p, seed, stream)
			for i, m := range mask {
				mask[i] = m * in[0][i]
			}
			return [][]float64{mask}
		},
	}
}

// dropoutMask is 0 or 1/(1-p) for each element.
func dropoutMask(draws []int64, per int, p float32, seed uint64, stream rng.Stream) []float64 {
	src := rng.New(seed, stream)
	mask := make([]float64, len(draws)*per)
	for i := range mask {
		j := i % per
		word := src.Block(uint64(draws[i/per]), uint32(j/4))[j%4]
		if float64(word) >= math.Round(float64(p)*(1<<32)) {
			mask[i] = 1 / (1 - float64(p))
		}
	}
	return mask
}
