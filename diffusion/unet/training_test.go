package unet_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// segments are the parameters as the optimizer sees them.
func segments(p *nn.Params) []optim.Segment {
	var list []optim.Segment
	for _, q := range p.List() {
		list = append(list, optim.Segment{Name: q.Name, Off: q.Off, Len: q.Len})
	}
	return list
}

func hostSlice(b tensor.Buffer) []float32 { return b.(tensor.Host).Float32s() }

// Ten steps of clipping, AGR and Adan on one batch give PyTorch's losses and
// weights.
func TestGoldenTraining(t *testing.T) {
	ref := readGolden(t, "unet-tiny-reference.safetensors")
	be := newCPU(t, 2)
	m := newModel(t, be, unet.Digits())
	require.NoError(t, m.Load(readGolden(t, "unet-tiny-weights.safetensors").under("")))
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	pass, err := agr.NewPass(c, true, segments(m.Params()), m.Params().FlatLen(), nil)
	require.NoError(t, err)

	batch := deviceBatch(t, be, m.Config(), unet.HostBatch{
		XT: ref.values("x_t"), Target: ref.values("eps"), T: ref.integers("t"), Draws: make([]int64, 4), Train: true,
	})
	want := ref.values("adan_agr.losses")
	require.Len(t, want, 10)
	for i, w := range want {
		sum, err := m.LossAndGrad(batch, nil)
		require.NoError(t, err)
		require.InEpsilon(t, float64(w), sum*float64(batch.GradScale), 1e-5, "step %d", i)
		stats, err := agr.Update(pass, optim.Update{
			Params: m.Params().Values(), Grads: m.Params().Grads(),
			LR: 2e-4, T: int64(i + 1), MaxGradNorm: 1,
		})
		require.NoError(t, err)
		require.True(t, stats.Finite)
	}

	// Adan divides noise by noise where the gradient is zero but for rounding.
	var global float64
	for _, g := range ref.under("grad.") {
		global = math.Hypot(global, norm(g.Data))
	}
	got, err := m.Export()
	require.NoError(t, err)
	compared := 0
	for _, w := range got {
		if norm(ref.values("grad."+w.Name)) < 1e-9*global {
			continue
		}
		requireClose(t, "weights of "+w.Name, ref.values("adan_agr.after10."+w.Name), w.Data, 1e-5, 0)
		compared++
	}
	require.Equal(t, len(got)-4, compared, "all but the biases of the four to_k")
}

func TestGoldenDDIM(t *testing.T) {
	ref := readGolden(t, "unet-tiny-reference.safetensors")
	m := newModel(t, newCPU(t, 2), unet.Digits())
	require.NoError(t, m.Load(readGolden(t, "unet-tiny-weights.safetensors").under("")))
	schedule, err := diffusion.NewSchedule("linear", 1000)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(c *diffusion.SamplerConfig)
	}{
		{"ddim.leading10", func(c *diffusion.SamplerConfig) {
			c.Spacing, c.Clip, c.FinalAlpha = diffusion.SpacingLeading, diffusion.ClipBefore, diffusion.FinalAlphaOne
		}},
		{"ddim.paper10", func(c *diffusion.SamplerConfig) {
			c.Spacing, c.Clip, c.FinalAlpha = diffusion.SpacingPaper, diffusion.ClipNone, diffusion.FinalAlphaFirst
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := diffusion.DefaultSamplerConfig()
			config.Method, config.Steps, config.Eta = diffusion.DDIM, 10, 0
			c.change(&config)
			sampler, err := diffusion.NewSampler(schedule, config)
			require.NoError(t, err)
			x := ref.values("x_T")
			require.NoError(t, sampler.Sample(t.Context(), m, x, []uint64{0, 1}, 0, nil))
			requireClose(t, c.name, ref.values(c.name), x, 1e-4, 0)
		})
	}
}
