package unet_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
)

// fusing is a backend whose gradients add to others and sum themselves, made of the
// operations of another. It counts what is taken along, and what is still added by itself.
type fusing struct {
	tensor.Backend
	tb                  testing.TB
	adds, taken, summed int
	inside              bool
}

func (f *fusing) Add(dst, a, b tensor.Tensor) {
	if !f.inside && a.Shape.Rank() == 4 {
		f.adds++
	}
	f.Backend.Add(dst, a, b)
}

// temporary is memory shaped like t.
func (f *fusing) temporary(t tensor.Tensor) tensor.Tensor {
	buf, err := f.Alloc(tensor.F32, t.Shape.Len())
	require.NoError(f.tb, err)
	return tensor.Tensor{Buf: buf, Shape: t.Shape}
}

func (f *fusing) GroupNormGradPlus(dx, dgamma, dbeta, dy, x, gamma, _, mean, rstd tensor.Tensor, groups int, silu bool, _ tensor.Dropout, plus tensor.NormPlus) {
	require.False(f.tb, silu, "a backend without GroupNormSiLU")
	own := f.temporary(dx)
	defer f.Free(own.Buf)
	f.GroupNormGrad(own, dgamma, dbeta, dy, x, gamma, mean, rstd, groups)
	f.inside = true
	for _, a := range plus.Addends {
		if a.Present() {
			f.taken++
			f.Add(own, own, a)
		}
	}
	f.Copy(dx, own)
	if plus.Sums.Present() {
		f.summed++
		f.SumChannels(plus.Sums, dx)
	}
	f.inside = false
}

func (f *fusing) Conv2DAddInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	own := f.temporary(dx)
	defer f.Free(own.Buf)
	f.Conv2DInputGrad(own, dy, w, c)
	f.inside = true
	f.taken++
	f.Add(dx, dx, own)
	f.inside = false
}

// The gradients are the same where the backend adds and sums them on the way; what is
// added by itself is next to nothing.
func TestFusedGradients(t *testing.T) {
	for name, c := range map[string]unet.Config{"digits": unet.Digits(), "odd": oddConfig()} {
		t.Run(name, func(t *testing.T) {
			batch := hostBatch(2, c, true)
			loss, want, err := newModel(t, newCPU(t, 2), c).LossAndGradients(batch)
			require.NoError(t, err)
			f := &fusing{Backend: newCPU(t, 2), tb: t}
			gotLoss, got, err := newModel(t, f, c).LossAndGradients(batch)
			require.NoError(t, err)
			require.InEpsilon(t, loss, gotLoss, 1e-6)
			require.Len(t, got, len(want))
			all := 0.0
			for _, g := range want {
				for _, v := range g {
					all += float64(v) * float64(v)
				}
			}
			for key, w := range want {
				diff, size := 0.0, 0.0
				for i, v := range w {
					diff += math.Pow(float64(got[key][i]-v), 2)
					size += float64(v) * float64(v)
				}
				require.LessOrEqual(t, math.Sqrt(diff), 1e-4*math.Sqrt(max(size, 1e-8*all)), key)
			}
			t.Logf("%d additions and %d sums taken along, %d additions left", f.taken, f.summed, f.adds)
			require.Equal(t, len(c.BlockOutChannels)-1, f.adds, "left are the inputs of downsampling, which are skips too")
			require.Greater(t, f.taken, 20)
			require.Greater(t, f.summed, 15)
		})
	}
}
