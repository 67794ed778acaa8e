//go:build unix

package cpu_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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

// measure runs f and reports its arithmetic over the processor time used, which
// on a shared machine says more than the time that passed.
func measure(b *testing.B, flop int, f func()) {
	b.Helper()
	f()
	start := processorTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(flop)*float64(b.N)/(processorTime(b)-start).Seconds()/1e9, "GFLOP/s")
}

// BenchmarkConv2D times 3x3 convolutions of [n, size, size, c] to as many
// channels on one thread, packing and padding included.
func BenchmarkConv2D(b *testing.B) {
	conv := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	for _, set := range kernel.Supported() {
		for _, s := range [][3]int{
			{8, 128, 32}, {8, 256, 16}, {16, 256, 8}, {32, 32, 32}, {32, 64, 16}, {8, 32, 8}, {8, 64, 4}, {8, 256, 4},
		} {
			n, c, size := s[0], s[1], s[2]
			flop := 2 * n * size * size * 9 * c * c
			name := fmt.Sprintf("%v/%dx%dx%dx%d", set, n, size, size, c)
			for kind := range 3 {
				b.Run([]string{"fwd/", "bwd-data/", "bwd-weights/"}[kind]+name, func(b *testing.B) {
					be := newBench(b, set)
					x, y, w, bias := be.of(n, size, size, c), be.of(n, size, size, c), be.of(3, 3, c, c), be.of(c)
					var none tensor.Tensor
					measure(b, flop, []func(){
						func() { be.Conv2D(y, x, w, bias, none, none, conv) },
						func() { be.Conv2DInputGrad(x, y, w, conv) },
						func() { be.Conv2DWeightGrad(w, bias, x, y, conv) },
					}[kind])
				})
			}
		}
	}
}

// processorTime is what the process has used.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	require.NoError(tb, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
