//go:build cuda

package cuda_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// The bytes of a benchmark are those that memory must move at least, so that its
// MB/s stand beside BenchmarkCopy's, the bandwidth there is. On the double they
// measure nothing: they run with AGRDIST_TEST_GPU=1.

// run times f on the device.
func run(b *testing.B, be *cuda.Backend, bytes int, f func()) {
	b.Helper()
	f()
	require.NoError(b, be.Sync())
	b.SetBytes(int64(bytes))
	for b.Loop() {
		for range 20 {
			f()
		}
		if err := be.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(20*b.N), "µs/call")
	b.SetBytes(int64(20 * bytes))
}

func gpu(b *testing.B) *cuda.Backend {
	b.Helper()
	if !cudatest.Real() {
		b.Skip("no GPU")
	}
	return open(b)
}

// layers are activations of the CIFAR-10 network in batches of 128.
var layers = []tensor.Shape{tensor.Of(128, 32, 32, 128), tensor.Of(128, 32, 32, 384), tensor.Of(128, 16, 16, 256), tensor.Of(128, 4, 4, 512)}

func BenchmarkKernels(b *testing.B) {
	be := gpu(b)
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, s := range layers {
			n, c, size := s.Dim(0), s.Dim(-1), s.Len()*dt.Size()
			of := func(dt tensor.DType, s tensor.Shape) tensor.Tensor {
				return tensor.Tensor{Buf: alloc(b, be, dt, normal(1, s.Len())), Shape: s}
			}
			x, y, z := of(dt, s), of(dt, s), of(dt, s)
			v, w, e := of(tensor.F32, tensor.Of(c)), of(tensor.F32, tensor.Of(c)), of(dt, tensor.Of(n, c))
			mean, rstd := of(tensor.F32, tensor.Of(n, 32)), of(tensor.F32, tensor.Of(n, 32))
			draws := mixedDraws(be, n)
			drop := tensor.Dropout{P: 0.1, Seed: 1, Stream: 6, Draws: draws}
			for _, k := range []struct {
				name   string
				passes int // over the activation
				f      func()
			}{
				{"Copy", 2, func() { be.Copy(y, x) }},
				{"Add", 3, func() { be.Add(z, x, y) }},
				{"SiLU", 2, func() { be.SiLU(y, x) }},
				{"AddChannels", 2, func() { be.AddChannels(y, x, e) }},
				{"SumChannels", 1, func() { be.SumChannels(v, x) }},
				{"Dropout", 2, func() { be.Dropout(y, x, draws, 0.1, 1, 6) }},
				{"Normal", 1, func() { be.Normal(y, draws, 1, 4) }},
				{"GroupNorm", 2, func() { be.GroupNorm(y, mean, rstd, x, v, w, 32, 1e-5) }},
				{"GroupNormSiLU", 2, func() { be.GroupNormSiLU(y, mean, rstd, x, v, w, 32, 1e-5, tensor.Dropout{}) }},
				{"GroupNormSiLUDropout", 2, func() { be.GroupNormSiLU(y, mean, rstd, x, v, w, 32, 1e-5, drop) }},
				{"GroupNormSiLUGrad", 3, func() { be.GroupNormSiLUGrad(z, v, w, y, x, v, w, mean, rstd, 32, drop) }},
			} {
				b.Run(fmt.Sprintf("%s/%v/%v", k.name, dt, s), func(b *testing.B) { run(b, be, k.passes*size, k.f) })
			}
		}
	}
}

// BenchmarkAttention is the one of the CIFAR-10 network's 16 x 16 level, and the
// same in heads of 32 channels.
func BenchmarkAttention(b *testing.B) {
	be := gpu(b)
	s := tensor.Of(128, 256, 256)
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, heads := range []int{1, 4, 8} {
			x := func() tensor.Tensor {
				return tensor.Tensor{Buf: alloc(b, be, dt, normal(1, s.Len())), Shape: s}
			}
			q, k, v, y, dq, dk, dv := x(), x(), x(), x(), x(), x(), x()
			sums := tensor.Of(128, heads, 256)
			lse := tensor.Tensor{Buf: alloc(b, be, tensor.F32, normal(2, sums.Len())), Shape: sums}
			name := fmt.Sprintf("%v/%d", dt, heads)
			b.Run("forward/"+name, func(b *testing.B) {
				run(b, be, 4*s.Len()*dt.Size(), func() { be.Attention(y, lse, q, k, v, heads, 0.1) })
			})
			b.Run("backward/"+name, func(b *testing.B) {
				run(b, be, 8*s.Len()*dt.Size(), func() { be.AttentionGrad(dq, dk, dv, y, y, lse, q, k, v, heads, 0.1) })
			})
		}
	}
}

// BenchmarkPass is an update of the CIFAR-10 network's parameters: 56 bytes each for
// Adan with AGR, clipping and the average.
func BenchmarkPass(b *testing.B) {
	be := gpu(b)
	const tensors, each = 36, 1 << 20
	var segments []optim.Segment
	for i := range tensors {
		segments = append(segments, optim.Segment{Name: fmt.Sprint(i), Off: i * each, Len: each})
	}
	c, err := optim.DefaultConfig("adan")
	require.NoError(b, err)
	p, err := cuda.NewPass(be, c, true, segments, tensors*each)
	require.NoError(b, err)
	defer func() { require.NoError(b, p.Close()) }()
	w, g, ema := alloc(b, be, tensor.F32, normal(1, tensors*each)), alloc(b, be, tensor.F32, normal(2, tensors*each)), alloc(b, be, tensor.F32, normal(1, tensors*each))
	u := optim.Update{Params: w, Grads: g, EMA: ema, LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999}
	run(b, be, 56*tensors*each, func() {
		u.T++
		if _, err := agr.Update(p, u); err != nil {
			b.Fatal(err)
		}
	})
}
