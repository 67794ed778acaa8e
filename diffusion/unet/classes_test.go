package unet_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor"
)

// classesConfig is the model of testdata/unet_classes.py, from diffusers' file.
func classesConfig(t *testing.T) unet.Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "unet-classes.json"))
	require.NoError(t, err)
	c, err := unet.ConfigFromDiffusers(text)
	require.NoError(t, err)
	require.Equal(t, 5, c.NumClassEmbeds)
	again, err := c.ToDiffusers()
	require.NoError(t, err)
	back, err := unet.ConfigFromDiffusers(again)
	require.NoError(t, err)
	require.Equal(t, c, back)
	return c
}

// diffusers' class-conditional model, plain and with weighted samples.
func TestGoldenClasses(t *testing.T) {
	ref := readGolden(t, "unet-classes.safetensors")
	c := classesConfig(t)
	for _, fused := range []bool{true, false} {
		be := newCPU(t, 2)
		if !fused {
			be = compose{be}
		}
		m := newModel(t, be, c)
		require.NoError(t, m.Load(ref.under("weight.")))
		x, ts, labels := ref.values("x_t"), ref.integers("t"), ref.integers("labels")
		pred := make([]float32, len(x)) // one channel: NCHW is NHWC
		require.NoError(t, m.PredictClasses(pred, x, ts, labels))
		requireClose(t, "prediction", ref.values("pred"), pred, 1e-5, 0)

		var weights []float64
		for _, w := range ref.values("weights") {
			weights = append(weights, float64(w))
		}
		for _, which := range []string{"plain", "weighted", "plain"} {
			b := unet.HostBatch{XT: x, Target: ref.values("eps"), T: ts, Labels: labels, Layout: unet.NCHW, Train: true}
			if which == "weighted" {
				b.Weights = weights
			}
			loss, grads, err := m.LossAndGradients(b)
			require.NoError(t, err)
			require.InEpsilon(t, float64(ref.values(which + ".loss")[0]), loss, 1e-5)
			requireGrads(t, ref, which+".", grads, 1e-4)
		}
	}
}

// Only the classes of the batch receive a gradient, and the table is registered where
// the forward pass uses it: after the timestep's embedding, before the first
// convolution.
func TestClassGradients(t *testing.T) {
	c := unet.Digits()
	c.NumClassEmbeds = 4
	m := newModel(t, newCPU(t, 1), c)
	spread(t, m)
	b := hostBatch(3, c, false)
	b.Labels = []int64{2, 0, 2}
	_, grads, err := m.LossAndGradients(b)
	require.NoError(t, err)
	table := grads["class_embedding.weight"]
	width := len(table) / 4
	for class, used := range []bool{true, false, true, false} {
		require.Equal(t, used, norm(table[class*width:(class+1)*width]) > 0, "class %d", class)
	}
	names := m.Params().List()
	at := slices.IndexFunc(names, func(p nn.Param) bool { return p.Name == "class_embedding.weight" })
	require.True(t, strings.HasPrefix(names[at-1].Name, "time_embedding.linear_2"))
	require.Equal(t, "conv_in.weight", names[at+1].Name)
}

// The weights of samples act on the loss and the gradient alone: twice the weight is
// the sample twice; weight 1 is no weight.
func TestWeightsAreLinear(t *testing.T) {
	c := unet.Digits()
	m := newModel(t, newCPU(t, 2), c)
	spread(t, m)
	b := hostBatch(2, c, false)
	plain, plainGrads, err := m.LossAndGradients(b)
	require.NoError(t, err)
	b.Weights = []float64{1, 1}
	loss, grads, err := m.LossAndGradients(b)
	require.NoError(t, err)
	require.Equal(t, plain, loss)
	require.Equal(t, plainGrads, grads, "the same bits")

	b.Weights = []float64{2.5, 0}
	weighted, weightedGrads, err := m.LossAndGradients(b)
	require.NoError(t, err)
	one := b
	half := len(b.XT) / 2
	one.XT, one.Target, one.T, one.Draws, one.Weights = b.XT[:half], b.Target[:half], b.T[:1], b.Draws, nil
	if len(b.Draws) > 0 {
		one.Draws = b.Draws[:1]
	}
	alone, aloneGrads, err := m.LossAndGradients(one)
	require.NoError(t, err)
	require.InEpsilon(t, 2.5*alone/2, weighted, 1e-5)
	for name, g := range aloneGrads {
		want := make([]float32, len(g))
		for i := range g {
			want[i] = 1.25 * g[i]
		}
		requireClose(t, name, want, weightedGrads[name], 1e-4, 1e-3)
	}
}

func TestClassRefusals(t *testing.T) {
	c := classesConfig(t)
	m := newModel(t, newCPU(t, 1), c)
	x := make([]float32, 2*64)
	require.ErrorContains(t, m.Predict(x, x, []int64{1, 2}), "0 classes for 2 samples of a conditional model")
	require.ErrorContains(t, m.PredictClasses(x, x, []int64{1, 2}, []int64{0, 5}), "sample 1 has class 5; the model has classes 0 to 4")
	require.ErrorIs(t, m.PredictClasses(x, x, []int64{1, 2}, []int64{-1, 0}), unet.ErrBatch)
	batch, err := unet.NewBatch(newCPU(t, 1), tensor.Of(2, c.SampleSize, c.SampleSize, c.InChannels))
	require.NoError(t, err)
	_, err = m.LossAndGrad(batch, nil)
	require.ErrorContains(t, err, "no Classes")
	require.ErrorIs(t, unet.OneHot(make([]float32, 3), []int64{0}, 2), unet.ErrBatch)

	c.NumClassEmbeds = -1
	require.ErrorContains(t, c.Validate(), "-1 class embeddings")
}

// The vectors of classes start as PyTorch's do: standard normal.
func TestClassInit(t *testing.T) {
	c := unet.Digits()
	c.NumClassEmbeds = 50
	m := newModel(t, newCPU(t, 1), c)
	m.Init(5)
	list, err := m.Export()
	require.NoError(t, err)
	i := slices.IndexFunc(list, func(t nn.Tensor) bool { return t.Name == "class_embedding.weight" })
	require.Equal(t, []int{50, 128}, list[i].Shape)
	require.InDelta(t, 1, norm(list[i].Data)/math.Sqrt(float64(len(list[i].Data))), 0.05)
	require.NoError(t, m.Load(list))
}
