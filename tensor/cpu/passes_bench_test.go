//go:build unix

package cpu_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// BenchmarkGroupNormSiLU times normalisation in 32 groups, SiLU and dropout of
// [n, size, size, c] and the gradient, on one thread.
func BenchmarkGroupNormSiLU(b *testing.B) {
	for _, set := range kernel.Supported() {
		for _, s := range [][3]int{{8, 128, 32}, {8, 256, 16}, {32, 32, 32}, {32, 64, 16}, {8, 256, 4}} {
			n, c, size := s[0], s[1], s[2]
			for kind := range 4 {
				name := []string{"fwd", "bwd", "fwd-dropout", "bwd-dropout"}[kind]
				b.Run(fmt.Sprintf("%s/%v/%dx%dx%dx%d", name, set, n, size, size, c), func(b *testing.B) {
					be := newBench(b, set)
					x, y, dy := be.of(n, size, size, c), be.of(n, size, size, c), be.of(n, size, size, c)
					gamma, beta, dgamma, dbeta := be.of(c), be.of(c), be.of(c), be.of(c)
					mean, rstd := be.of(n, 32), be.of(n, 32)
					var drop tensor.Dropout
					if kind > 1 {
						draws, err := be.Alloc(tensor.I64, n)
						require.NoError(b, err)
						drop = tensor.Dropout{P: 0.1, Seed: 1, Stream: 1, Draws: tensor.Tensor{Buf: draws, Shape: tensor.Of(n)}}
					}
					forward := func() { be.GroupNormSiLU(y, mean, rstd, x, gamma, beta, 32, 1e-5, drop) }
					forward()
					start := processorTime(b)
					for b.Loop() {
						if kind%2 == 0 {
							forward()
						} else {
							be.GroupNormSiLUGrad(y, dgamma, dbeta, dy, x, gamma, beta, mean, rstd, 32, drop)
						}
					}
					tensors := 2 + kind%2
					b.ReportMetric(float64(4*tensors*n*size*size*c)*float64(b.N)/float64((processorTime(b)-start).Nanoseconds()), "GB/s")
				})
			}
		}
	}
}

// BenchmarkAttention times one head of c channels over l pixels, as one operation
// and composed of products and softmax. The gradient's operations are its four
// products; computing the scores again is not counted.
func BenchmarkAttention(b *testing.B) {
	for _, set := range kernel.Supported() {
		for _, s := range [][3]int{{8, 256, 256}, {8, 16, 256}, {32, 256, 64}, {32, 64, 64}, {2, 1024, 64}, {8, 64, 512}} {
			n, l, c := s[0], s[1], s[2]
			for _, kind := range []string{"fwd", "bwd", "fwd-composed", "bwd-composed"} {
				b.Run(fmt.Sprintf("%s/%v/%dx%dx%d", kind, set, n, l, c), func(b *testing.B) {
					be := newBench(b, set)
					q, k, v, y, dy := be.of(n, l, c), be.of(n, l, c), be.of(n, l, c), be.of(n, l, c), be.of(n, l, c)
					dq, dk, dv, lse := be.of(n, l, c), be.of(n, l, c), be.of(n, l, c), be.of(n, 1, l)
					p, ds := be.of(n, l, l), be.of(n, l, l)
					const scale = 0.05
					flop := 2 * 2 * n * l * l * c
					product := func(dst, x, y tensor.Tensor, transA, transB bool) {
						be.MatMul(dst, x, y, tensor.MatMulArgs{TransA: transA, TransB: transB, Alpha: 1})
					}
					switch kind {
					case "fwd":
						measure(b, flop, func() { be.Attention(y, lse, q, k, v, 1, scale) })
					case "bwd":
						be.Attention(y, lse, q, k, v, 1, scale)
						measure(b, 2*flop, func() { be.AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v, 1, scale) })
					case "fwd-composed":
						measure(b, flop, func() {
							product(p, q, k, false, true)
							be.Softmax(p, p, scale)
							product(y, p, v, false, false)
						})
					case "bwd-composed":
						be.Softmax(p, p, scale)
						measure(b, 2*flop, func() {
							product(dv, p, dy, true, false)
							product(ds, dy, v, false, true)
							be.SoftmaxGrad(ds, ds, p, scale)
							product(dk, ds, q, true, false)
							product(dq, ds, k, false, false)
						})
					}
				})
			}
		}
	}
}

// BenchmarkPasses times what only moves memory, on one thread, at shapes of the
// small model and of the full one.
func BenchmarkPasses(b *testing.B) {
	for _, s := range [][3]int{{32, 32, 32}, {8, 128, 32}} {
		n, c, size := s[0], s[1], s[2]
		be := newBench(b, kernel.Supported()[len(kernel.Supported())-1])
		x, y, both := be.of(n, size, size, c), be.of(n, size, size, c), be.of(n, size, size, 2*c)
		small, sums, e, loss := be.of(n, size/2, size/2, c), be.of(c), be.of(n, c), be.of(n)
		for _, k := range []struct {
			name    string
			tensors float64 // passes over x
			f       func()
		}{
			{"Add", 3, func() { be.Add(x, x, y) }},
			{"SiLU", 2, func() { be.SiLU(y, x) }},
			{"AddChannels", 2, func() { be.AddChannels(x, x, e) }},
			{"Concat", 4, func() { be.Concat(both, x, y) }},
			{"Split", 4, func() { be.Split(x, y, both) }},
			{"SumChannels", 1, func() { be.SumChannels(sums, x) }},
			{"SumChannelsSample", 1, func() { be.SumChannels(e, x) }},
			{"Upsample", 1.25, func() { be.Upsample(x, small) }},
			{"UpsampleGrad", 1.25, func() { be.UpsampleGrad(small, x) }},
			{"MSE", 3, func() { be.MSE(loss, x, x, y, 1) }},
			{"QSample", 3, func() { be.QSample(x, x, y, loss, loss) }},
		} {
			b.Run(fmt.Sprintf("%s/%dx%dx%dx%d", k.name, n, size, size, c), func(b *testing.B) {
				be.Fill(x, 1)
				be.Fill(y, 1)
				be.Fill(loss, 0.5)
				start := processorTime(b)
				for b.Loop() {
					k.f()
				}
				b.ReportMetric(k.tensors*4*float64(n*size*size*c)*float64(b.N)/float64((processorTime(b)-start).Nanoseconds()), "GB/s")
			})
		}
	}
}
