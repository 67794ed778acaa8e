package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// pointwise returns a reference that applies f to the operands' elements.
func pointwise(f func(v []float64) float64) func(in [][]float64) [][]float64 {
	return func(in [][]float64) [][]float64 {
		out := make([]float64, len(in[0]))
		v := make([]float64, len(in))
		for i := range out {
			for k := range in {
				v[k] = in[k][i]
			}
			out[i] = f(v)
		}
		return [][]float64{out}
	}
}

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

// special are the values that vector code gets wrong.
func special(o operand) operand {
	for i, v := range []float32{
		0, float32(math.Copysign(0, -1)), 1e-30, -1e-30, 88.5, -88.5, 104, -104, 1e4, -1e4,
		float32(math.NaN()), math.MaxFloat32, 1e-40,
	} {
		if i < len(o.f) {
			o.f[i] = v
		}
	}
	return o
}

func elementwiseCases() []testCase {
	var all []testCase
	for _, n := range []int{0, 1, 3, 16, 37, 1000, 17_001} {
		all = append(all, elementwiseOf(n)...)
	}
	all = append(all, channelCases()...)
	return append(all, joinCases()...)
}

func elementwiseOf(n int) []testCase {
	const alpha = 0.37
	name := func(op string) string { return fmt.Sprintf("%s/%d", op, n) }
	a, b := special(values(1, n)), values(2, n)
	s := a.shape
	return []testCase{{
		name: name("Copy"), in: []operand{a}, out: []result{{shape: s}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.Copy(out[0], in[0]) },
		want: pointwise(func(v []float64) float64 { return v[0] }),
	}, {
		name: name("Fill"), in: []operand{a}, out: []result{{shape: s}},
		run:  func(be tensor.Backend, _, out []tensor.Tensor) { be.Fill(out[0], alpha) },
		want: pointwise(func([]float64) float64 { return float64(float32(alpha)) }),
	}, {
		name: name("Add"), in: []operand{a, b}, out: []result{{shape: s, mayBe: []int{0, 1}}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.Add(out[0], in[0], in[1]) },
		want: pointwise(func(v []float64) float64 { return v[0] + v[1] }),
	}, {
		name: name("AddScaled"), in: []operand{b, values(3, n)}, out: []result{{shape: s, starts: 1}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.AddScaled(out[0], in[1], alpha) },
		want: pointwise(func(v []float64) float64 { return v[0] + alpha*v[1] }), tol: tolElement,
	}, {
		name: name("Scale"), in: []operand{a}, out: []result{{shape: s, mayBe: []int{0}}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.Scale(out[0], in[0], alpha) },
		want: pointwise(func(v []float64) float64 { return float64(float32(alpha)) * v[0] }),
	}, {
		name: name("SiLU"), in: []operand{b}, out: []result{{shape: s, mayBe: []int{0}}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.SiLU(out[0], in[0]) },
		want: pointwise(func(v []float64) float64 { return v[0] * sigmoid(v[0]) }), tol: 2 * tolElement, relative: true,
	}, {
		name: name("SiLU/special"), in: []operand{special(values(1, min(n, 20)))}, out: []result{{shape: shape(min(n, 20))}},
		run:  func(be tensor.Backend, in, out []tensor.Tensor) { be.SiLU(out[0], in[0]) },
		want: pointwise(func(v []float64) float64 { return v[0] * sigmoid(v[0]) }), tol: 2 * tolElement, relative: true,
	}, {
		name: name("SiLUGrad"), in: []operand{b, values(4, n)}, out: []result{{shape: s, mayBe: []int{0, 1}}},
		run: func(be tensor.Backend, in, out []tensor.Tensor) { be.SiLUGrad(out[0], in[0], in[1]) },
		want: pointwise(func(v []float64) float64 {
			g := sigmoid(v[1])
			return v[0] * (g + v[1]*g*(1-g))
		}), tol: tolElement,
		numeric: pointwise(func(v []float64) float64 {
			f := func(x float64) float64 { return x * sigmoid(x) }
			return v[0] * (f(v[1]+difference) - f(v[1]-difference)) / (2 * difference)
		}),
	}}
}

// channelCases are AddChannels and QSample: a value for each channel, or one
// for each sample.
func channelCases() []testCase {
	var all []testCase
	for _, d := range [][4]int{{1, 1, 1, 1}, {2, 3, 5, 7}, {3, 4, 4, 32}, {2, 1, 1, 33}} {
		n, per, c := d[0], d[1]*d[2]*d[3], d[3]
		x := values(5, d[:]...)
		y := []result{{shape: x.shape, mayBe: []int{0}}}
		add := func(be tensor.Backend, in, out []tensor.Tensor) { be.AddChannels(out[0], in[0], in[1]) }
		all = append(all, testCase{
			name: fmt.Sprintf("AddChannels/bias/%v", x.shape), in: []operand{x, values(6, c)}, out: y, run: add,
			want: indexed(func(in [][]float64, i int) float64 { return in[0][i] + in[1][i%c] }),
		}, testCase{
			name: fmt.Sprintf("AddChannels/sample/%v", x.shape), in: []operand{x, values(6, n, c)}, out: y, run: add,
			want: indexed(func(in [][]float64, i int) float64 { return in[0][i] + in[1][i/per*c+i%c] }),
		}, testCase{
			name: fmt.Sprintf("QSample/%v", x.shape),
			in:   []operand{x, values(7, d[:]...), values(8, n), values(9, n)},
			out:  []result{{shape: x.shape, mayBe: []int{0, 1}}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) {
				be.QSample(out[0], in[0], in[1], in[2], in[3])
			},
			want: indexed(func(in [][]float64, i int) float64 {
				return in[2][i/per]*in[0][i] + in[3][i/per]*in[1][i]
			}), tol: tolElement,
		})
	}
	return all
}

// indexed returns a reference of one output as long as the first input.
func indexed(f func(in [][]float64, i int) float64) func(in [][]float64) [][]float64 {
	return func(in [][]float64) [][]float64 {
		out := make([]float64, len(in[0]))
		for i := range out {
			out[i] = f(in, i)
		}
		return [][]float64{out}
	}
}

// joinCases are Concat and Split.
func joinCases() []testCase {
	var all []testCase
	for _, d := range [][3]int{{1, 1, 1}, {6, 3, 5}, {32, 64, 32}, {5, 1, 31}, {700, 16, 24}} {
		n, ca, cb := d[0], d[1], d[2]
		a, b, whole := values(10, n, ca), values(11, n, cb), values(12, n, ca+cb)
		all = append(all, testCase{
			name: fmt.Sprintf("Concat/%v", d), in: []operand{a, b}, out: []result{{shape: whole.shape}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) { be.Concat(out[0], in[0], in[1]) },
			want: func(in [][]float64) [][]float64 {
				var out []float64
				for i := range n {
					out = append(out, in[0][i*ca:(i+1)*ca]...)
					out = append(out, in[1][i*cb:(i+1)*cb]...)
				}
				return [][]float64{out}
			},
		}, testCase{
			name: fmt.Sprintf("Split/%v", d), in: []operand{whole}, out: []result{{shape: a.shape}, {shape: b.shape}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) { be.Split(out[0], out[1], in[0]) },
			want: func(in [][]float64) [][]float64 {
				var x, y []float64
				for i := range n {
					row := in[0][i*(ca+cb):]
					x = append(x, row[:ca]...)
					y = append(y, row[ca:ca+cb]...)
				}
				return [][]float64{x, y}
			},
		})
	}
	return all
}
