package cpu_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// bench gives tensors of a one-thread backend.
type bench struct {
	*cpu.Backend
	b *testing.B
}

func newBench(b *testing.B, set kernel.Set) bench {
	b.Helper()
	be := cpu.New(cpu.Config{Threads: 1, Kernels: set.String()})
	b.Cleanup(func() { require.NoError(b, be.Close()) })
	return bench{be, b}
}

func (b bench) of(dims ...int) tensor.Tensor {
	s := tensor.Of(dims...)
	buf, err := b.Alloc(tensor.F32, s.Len())
	require.NoError(b.b, err)
	draws, err := b.Alloc(tensor.I64, dims[0])
	require.NoError(b.b, err)
	t := tensor.Tensor{Buf: buf, Shape: s}
	b.Normal(t, tensor.Tensor{Buf: draws, Shape: tensor.Of(dims[0])}, 1, 1)
	return t
}

// rate reports the arithmetic of one iteration.
func rate(b *testing.B, flop int) {
	b.ReportMetric(float64(flop)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// BenchmarkConv2D times 3x3 convolutions of [n, size, size, c] to as many
// channels on one thread, packing and padding included.
func BenchmarkConv2D(b *testing.B) {
	conv := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	for _, set := range kernel.Supported() {
		for _, s := range [][3]int{
			{8, 128, 32}, {8, 256, 16}, {16, 256, 8}, {32, 32, 32}, {32, 64, 16}, {8, 32, 8}, {8, 64, 4},
		} {
			n, c, size := s[0], s[1], s[2]
			flop := 2 * n * size * size * 9 * c * c
			name := fmt.Sprintf("%v/%dx%dx%dx%d", set, n, size, size, c)
			for kind := range 3 {
				b.Run([]string{"fwd/", "bwd-data/", "bwd-weights/"}[kind]+name, func(b *testing.B) {
					be := newBench(b, set)
					x, y, w, bias := be.of(n, size, size, c), be.of(n, size, size, c), be.of(3, 3, c, c), be.of(c)
					for b.Loop() {
						switch kind {
						case 0:
							be.Conv2D(y, x, w, bias, tensor.Tensor{}, tensor.Tensor{}, conv)
						case 1:
							be.Conv2DInputGrad(x, y, w, conv)
						default:
							be.Conv2DWeightGrad(w, bias, x, y, conv)
						}
					}
					rate(b, flop)
				})
			}
		}
	}
}
