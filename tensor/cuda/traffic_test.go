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
