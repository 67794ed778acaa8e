package setup

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// conditionalModel has 3 classes and none, and weights that all matter.
func conditionalModel(t *testing.T) *unet.Model {
	t.Helper()
	c := unet.Config{
		SampleSize: 4, InChannels: 1, OutChannels: 1, BlockOutChannels: []int{8}, LayersPerBlock: 1,
		NormNumGroups: 4, NormEps: 1e-5, DownsamplePadding: 1, NumClassEmbeds: 4,
	}
	be := cpu.New(cpu.Config{Threads: 1})
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	m, err := unet.New(be, c)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	list, err := m.Export()
	require.NoError(t, err)
	for i, p := range list {
		rng.New(3, rng.StreamInit.With(i)).Normal(p.Data, 0)
		for j := range p.Data {
			p.Data[j] *= 0.3
		}
	}
	require.NoError(t, m.Load(list))
	return m
}

func guidedPredictor(t *testing.T, m *unet.Model, g diffusion.Guidance, ids []uint64) diffusion.Predictor {
	t.Helper()
	guide, err := guideOf(m, g, ids)
	require.NoError(t, err)
	return predictor(m, guide)
}

// The guided output is that of the formula, from outputs of the model with and without
// the class; a scale of 1 is the class alone, 0 none.
func TestGuidance(t *testing.T) {
	m := conditionalModel(t)
	x, ts := make([]float32, 3*16), []int64{5, 400, 999}
	rng.New(1, rng.StreamNoise).Normal(x, 0)
	predict := func(labels ...int64) []float32 {
		out := make([]float32, len(x))
		require.NoError(t, m.PredictClasses(out, x, ts, labels))
		return out
	}
	with, none := predict(2, 2, 2), predict(3, 3, 3)
	require.NotEqual(t, with, none)
	two := 2
	for _, scale := range []float64{0, 1, 2.5} {
		p := guidedPredictor(t, m, diffusion.Guidance{Scale: scale, HasNone: true, Only: &two}, []uint64{7, 8, 9})
		got := make([]float32, len(x))
		for range 2 { // its buffers are used again
			require.NoError(t, p.Predict(got, x, ts))
			for i := range got {
				require.InDelta(t, float64(none[i])+scale*float64(with[i]-none[i]), got[i], 1e-5, "scale %g", scale)
			}
		}
	}
	// Rows of ten of a class; none is no class to draw.
	p := guidedPredictor(t, m, diffusion.Guidance{Scale: 1, HasNone: true}, []uint64{9, 10, 30})
	got := make([]float32, len(x))
	require.NoError(t, p.Predict(got, x, ts))
	require.Equal(t, predict(0, 1, 0), got)
	p = guidedPredictor(t, m, diffusion.Guidance{Scale: 1}, []uint64{9, 10, 30})
	require.NoError(t, p.Predict(got, x, ts))
	require.Equal(t, predict(0, 1, 3), got)

	_, err := guideOf(m, diffusion.Guidance{Scale: 2}, []uint64{0})
	require.ErrorContains(t, err, "without label dropout")
	three := 3
	_, err = guideOf(m, diffusion.Guidance{Scale: 1, HasNone: true, Only: &three}, []uint64{0})
	require.ErrorContains(t, err, "class 3: the model has classes 0 to 2")
}

// Images of a conditional model do not depend on the batch.
func TestGenerateConditional(t *testing.T) {
	m := conditionalModel(t)
	s, err := diffusion.NewSchedule(diffusion.Linear, 100)
	require.NoError(t, err)
	c := diffusion.DefaultSamplerConfig()
	c.Method, c.Steps, c.Guidance = diffusion.DPMSolver, 4, diffusion.Guidance{Scale: 2, HasNone: true}
	sampler, err := diffusion.NewSampler(s, c)
	require.NoError(t, err)
	all, err := Generate(t.Context(), sampler, m, 3, 0, 25, 25, nil)
	require.NoError(t, err)
	part, err := Generate(t.Context(), sampler, m, 3, 8, 13, 2, nil)
	require.NoError(t, err)
	require.Equal(t, all[8*16:13*16], part)
}

// Labels are checked before a run starts.
func TestLabelsOfTheData(t *testing.T) {
	c := config.Default()
	c.Model.NumClassEmbeds = 10
	_, err := ScanData(t.Context(), &c, nil)
	require.NoError(t, err)
	c.Data.LabelDropout = 0.1
	_, err = ScanData(t.Context(), &c, nil)
	require.ErrorContains(t, err, "digits has labels up to 9; set model.num_class_embeds to its 10 classes, and one more for dropped labels")
	c.Model.NumClassEmbeds = 11
	_, err = ScanData(t.Context(), &c, nil)
	require.NoError(t, err)
	memory, err := MemoryOf(&c)
	require.NoError(t, err)
	require.Positive(t, memory.Activations)
}
