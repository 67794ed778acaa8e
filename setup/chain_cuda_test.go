//go:build cuda

package setup

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// onGPU is a small model with weights that all matter, of so many classes.
func onGPU(t *testing.T, classes int) (*cuda.Backend, *unet.Model) {
	t.Helper()
	be, err := cuda.New(cuda.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	m, err := unet.New(be, unet.Config{
		SampleSize: 6, InChannels: 1, OutChannels: 1, BlockOutChannels: []int{8}, LayersPerBlock: 1,
		NormNumGroups: 4, NormEps: 1e-5, DownsamplePadding: 1, NumClassEmbeds: classes,
	})
	require.NoError(t, err)
	list, err := m.Export()
	require.NoError(t, err)
	for i, p := range list {
		rng.New(3, rng.StreamInit.With(i)).Normal(p.Data, 0)
		for j := range p.Data {
			p.Data[j] *= 0.3
		}
	}
	require.NoError(t, m.Load(list))
	return be, m
}

// Images that stay on the device are those that the host takes from step to step, for
// every method, with and without guidance; nothing of their size is copied in between.
func TestSamplingOnTheDevice(t *testing.T) {
	schedule, err := diffusion.NewSchedule(diffusion.Linear, 100)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		method, clip string
		eta          float64
		classes      int
		guidance     diffusion.Guidance
	}{
		"ddpm":               {diffusion.DDPM, diffusion.ClipBefore, 0, 0, diffusion.Guidance{Scale: 1}},
		"ddim with noise":    {diffusion.DDIM, diffusion.ClipAfter, 0.7, 0, diffusion.Guidance{Scale: 1}},
		"dpm-solver, guided": {diffusion.DPMSolver, diffusion.ClipBefore, 0, 4, diffusion.Guidance{Scale: 2.5, HasNone: true}},
		"heun, of a class":   {diffusion.Heun, diffusion.ClipNone, 0, 4, diffusion.Guidance{Scale: 1, HasNone: true}},
		"ddim, of none":      {diffusion.DDIM, diffusion.ClipNone, 0, 4, diffusion.Guidance{Scale: 0, HasNone: true}},
	} {
		t.Run(name, func(t *testing.T) {
			be, m := onGPU(t, c.classes)
			config := diffusion.DefaultSamplerConfig()
			config.Method, config.Clip, config.Eta, config.Steps, config.Guidance = c.method, c.clip, c.eta, 10, c.guidance
			s, err := diffusion.NewSampler(schedule, config)
			require.NoError(t, err)
			var want []float32
			for _, ids := range [][]uint64{{8, 9, 10}, {11, 12}} {
				guide, err := guideOf(m, c.guidance, ids)
				require.NoError(t, err)
				x := make([]float32, 36*len(ids))
				diffusion.InitialNoise(x, ids, 5)
				require.NoError(t, s.Sample(t.Context(), predictor(m, guide), x, ids, 5, nil))
				want = append(want, x...)
			}
			steps := 0
			be.Count()
			got, err := Generate(t.Context(), s, m, 5, 8, 13, 3, func(done, _ int) { steps = done })
			require.NoError(t, err)
			require.Equal(t, 2*len(s.Timesteps()), steps)
			for i := range want {
				require.InDelta(t, want[i], got[i], 1e-5*math.Max(1, math.Abs(float64(want[i]))), "value %d", i)
			}
			bytes, images := int64(0), int64(4*len(got))
			for _, o := range be.Counts().Operations {
				if o.Name == "device to host" {
					bytes += o.Bytes
				}
			}
			require.Less(t, bytes, images+1024, "the images, once, and whether they are finite")

			// To look at the images on their way changes none.
			seen := 0
			traced, err := GenerateTraced(t.Context(), s, m, 5, 8, 10, 2, nil, func(x []float32, _, _ int) {
				seen++
				require.NotContains(t, x, float32(0))
			})
			require.NoError(t, err)
			require.Equal(t, 1+len(s.Timesteps()), seen)
			again, err := Generate(t.Context(), s, m, 5, 8, 10, 2, nil)
			require.NoError(t, err)
			require.Equal(t, again, traced)
		})
	}
}

// An output that is not finite is found, with the image and about the step; a sampling
// that is stopped ends within a few steps.
func TestSamplingOnTheDeviceFails(t *testing.T) {
	cudatest.Doubles(t, "it is about the host's part")
	schedule, err := diffusion.NewSchedule(diffusion.Linear, 100)
	require.NoError(t, err)
	config := diffusion.DefaultSamplerConfig()
	config.Steps = 20
	s, err := diffusion.NewSampler(schedule, config)
	require.NoError(t, err)
	_, m := onGPU(t, 0)
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = Generate(ctx, s, m, 5, 0, 3, 3, func(done, _ int) {
		if done == 2 {
			cancel(stop)
		}
	})
	require.ErrorIs(t, err, stop)
	require.ErrorContains(t, err, "after 2 of 20 steps")

	list, err := m.Export()
	require.NoError(t, err)
	list[0].Data[0] = float32(math.Inf(1))
	require.NoError(t, m.Load(list))
	_, err = Generate(t.Context(), s, m, 5, 7, 9, 3, nil)
	require.ErrorIs(t, err, diffusion.ErrNotFinite)
	require.ErrorContains(t, err, "timesteps 95 to 60 (steps 1 to 8 of 20), image 7")
}
