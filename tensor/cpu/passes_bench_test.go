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
