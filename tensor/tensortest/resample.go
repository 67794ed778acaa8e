package tensortest

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

func resampleCases() []testCase {
	var all []testCase
	for _, d := range [][4]int{{1, 1, 1, 1}, {2, 3, 2, 5}, {1, 4, 4, 32}, {2, 2, 5, 33}} {
		h, w, c := d[1], d[2], d[3]
		x, dy := values(70, d[:]...), values(71, d[0], 2*h, 2*w, c)
		// source is the element of x that element i of y shows.
		source := func(i int) int {
			return ((i/(4*h*w*c)*h+i/(2*w*c)%(2*h)/2)*w+i/c%(2*w)/2)*c + i%c
		}
		all = append(all, testCase{
			name: fmt.Sprintf("Upsample/%v", x.shape), in: []operand{x}, out: []result{{shape: dy.shape}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) { be.Upsample(out[0], in[0]) },
			want: func(in [][]float64) [][]float64 {
				y := make([]float64, dy.shape.Len())
				for i := range y {
					y[i] = in[0][source(i)]
				}
				return [][]float64{y}
			},
		}, testCase{
			name: fmt.Sprintf("UpsampleGrad/%v", x.shape), in: []operand{dy}, out: []result{{shape: x.shape}},
			run: func(be tensor.Backend, in, out []tensor.Tensor) { be.UpsampleGrad(out[0], in[0]) },
			want: func(in [][]float64) [][]float64 {
				dx := make([]float64, x.shape.Len())
				for i, v := range in[0] {
					dx[source(i)] += v
				}
				return [][]float64{dx}
			}, tol: tolElement,
		})
	}
	return append(all, embeddingCases()...)
}

func embeddingCases() []testCase {
	steps := integers(0, 1, 57, 500, 999)
	var all []testCase
	for _, dim := range []int{4, 5, 32, 128} {
		for shift := range 2 {
			for _, flip := range []bool{false, true} {
				all = append(all, testCase{
					name: fmt.Sprintf("TimestepEmbedding/%d/%d/%t", dim, shift, flip),
					in:   []operand{steps}, out: []result{{shape: shape(len(steps.i), dim)}},
					tol: 1e-4, // an F32 argument of 999 radians is uncertain by 6e-5
					run: func(be tensor.Backend, in, out []tensor.Tensor) {
						be.TimestepEmbedding(out[0], in[0], shift, flip)
					},
					want: func(in [][]float64) [][]float64 { return [][]float64{embedding(in[0], dim, shift, flip)} },
				})
			}
		}
	}
	return all
}

// embedding leaves an odd last column zero.
func embedding(t []float64, dim, shift int, flip bool) []float64 {
	half := dim / 2
	out := make([]float64, len(t)*dim)
	for i, step := range t {
		for k := range half {
			angle := step * math.Pow(10000, -float64(k)/float64(half-shift))
			first, second := math.Sin(angle), math.Cos(angle)
			if flip {
				first, second = second, first
			}
			out[i*dim+k], out[i*dim+half+k] = first, second
		}
	}
	return out
}
