//go:build cuda

package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// Every kernel has a class, so that what it does is seen where a step is counted.
func TestEveryKernelIsCounted(t *testing.T) {
	require.Empty(t, cuda.WithoutClass(open(t)))
}

// The bytes that are counted for a training pass are those that its kernels touch, but
// for what has one element a channel, a sample or a group.
func TestTraffic(t *testing.T) {
	cudatest.Touched(t, "add_f32") // skips where nobody counts
	for _, bf16 := range []bool{false, true} {
		for name, c := range map[string]unet.Config{"wide head": smallUNet(), "narrow heads": narrowHeads()} {
			be, err := cuda.New(cuda.Config{BF16: bf16})
			require.NoError(t, err)
			m, err := unet.New(be, c)
			require.NoError(t, err)
			batch := unetBatch(c, 2)
			_, _, err = m.LossAndGradients(batch) // what is done once is done
			require.NoError(t, err)
			before := map[string]int64{}
			be.Count()
			_, _, err = m.LossAndGradients(batch)
			require.NoError(t, err)
			first := be.Counts().Operations
			for _, o := range first {
				before[o.Name] = cudatest.Touched(t, o.Name)
			}
			be.Count()
			_, _, err = m.LossAndGradients(batch)
			require.NoError(t, err)
			compared := 0
			for _, o := range be.Counts().Operations {
				if o.Own {
					requireTraffic(t, name, o, cudatest.Touched(t, o.Name)-before[o.Name])
					compared++
				}
			}
			require.Greater(t, compared, 15)
			m.Close()
			require.NoError(t, be.Close())
		}
	}
}

// requireTraffic compares an operation's bytes with those touched. The networks are
// small: what is not counted is up to half of some.
func requireTraffic(t *testing.T, network string, o tensor.Operation, touched int64) {
	t.Helper()
	require.LessOrEqual(t, o.Bytes, touched, "%s: %s: more bytes are counted than are touched", network, o.Name)
	require.LessOrEqual(t, float64(touched), 1.5*float64(o.Bytes)+4096, "%s: %s: fewer bytes are counted than are touched", network, o.Name)
}

// The step of a sampler, with all that it may read and write, and with the least.
func TestTrafficOfTheSampler(t *testing.T) {
	be := open(t)
	const n, per = 3, 700
	of := func(seed int) tensor.Tensor {
		return tensor.Tensor{Buf: alloc(t, be, tensor.F32, normal(seed, n*per)), Shape: tensor.Of(n, per)}
	}
	ids, err := be.Alloc(tensor.I64, n)
	require.NoError(t, err)
	be.UploadInt64(ids, []int64{5, 1 << 40, 7})
	x, out, none, a, kept := of(1), of(2), of(3), of(4), of(5)
	all := tensor.SamplerStep{XX: 1, XO: 0.5, KX0: 0.25, KXT: 0.5, KA: 1, KB: 2, BX: 3, B0: 4, Keeps: true, Clip: true, Scale: 2, Seed: 1, Stream: 8}
	for _, f := range []func(){
		func() { be.SamplerStep(x, out, none, a, kept, tensor.Tensor{Buf: ids, Shape: tensor.Of(n)}, all) },
		func() {
			be.SamplerStep(x, out, tensor.Tensor{}, tensor.Tensor{}, tensor.Tensor{}, tensor.Tensor{Buf: ids, Shape: tensor.Of(n)},
				tensor.SamplerStep{XX: 1, KX0: 1, KOut: 1, Sigma: 0.5, Seed: 1, Stream: 8})
		},
	} {
		before := cudatest.Touched(t, "sampler_step")
		be.Count()
		f()
		require.NoError(t, be.Sync())
		require.Len(t, be.Counts().Operations, 1)
		requireTraffic(t, "sampler", be.Counts().Operations[0], cudatest.Touched(t, "sampler_step")-before)
	}
}
