package unet_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
)

// compose hides the fused operations of a backend.
type compose struct{ tensor.Backend }

// The values come from PyTorch in float64.
func TestGoldenTiny(t *testing.T) {
	for _, fused := range []bool{true, false} {
		t.Run(map[bool]string{true: "fused", false: "composed"}[fused], func(t *testing.T) {
			be := newCPU(t, 2)
			if !fused {
				be = compose{be}
			}
			m := newModel(t, be, unet.Digits())
			require.NoError(t, m.Load(readGolden(t, "unet-tiny-weights.safetensors").under("")))
			ref := readGolden(t, "unet-tiny-reference.safetensors")
			ts := ref.integers("t")

			pred := make([]float32, len(ref.values("x_t")))
			require.NoError(t, m.Predict(pred, ref.values("x_t"), ts)) // one channel: NCHW is NHWC
			requireClose(t, "prediction", ref.values("pred"), pred, 1e-5, 0)

			loss, grads, err := m.LossAndGradients(unet.HostBatch{
				XT: ref.values("x_t"), Target: ref.values("eps"), T: ts, Layout: unet.NCHW, Train: true,
			})
			require.NoError(t, err)
			require.InEpsilon(t, float64(ref.values("loss")[0]), loss, 1e-5)
			requireGrads(t, ref, "", grads, 1e-5)
		})
	}
}

// The switches that Digits leaves off: two channels a head, a shifted frequency,
// cosines first, padding at one side only, more channels in than out, twelve pixels.
func TestGoldenOdd(t *testing.T) {
	ref := readGolden(t, "unet-odd.safetensors")
	c := oddConfig()
	c.LayersPerBlock, c.AttentionLevels = 2, []int{0, 2}
	m := newModel(t, newCPU(t, 2), c)
	require.NoError(t, m.Load(ref.under("weight.")))
	n, size := 2, c.SampleSize

	x, pred := make([]float32, n*size*size*c.InChannels), make([]float32, n*size*size*c.OutChannels)
	unet.NCHWToNHWC(x, ref.values("x_t"), n, c.InChannels, size, size)
	require.NoError(t, m.Predict(pred, x, ref.integers("t")))
	got := make([]float32, len(pred))
	unet.NHWCToNCHW(got, pred, n, c.OutChannels, size, size)
	requireClose(t, "prediction", ref.values("pred"), got, 1e-5, 0)

	loss, grads, err := m.LossAndGradients(unet.HostBatch{
		XT: ref.values("x_t"), Target: ref.values("eps"), T: ref.integers("t"), Layout: unet.NCHW,
	})
	require.NoError(t, err)
	require.InEpsilon(t, float64(ref.values("loss")[0]), loss, 1e-5)
	requireGrads(t, ref, "", grads, 1e-4)
}

// diffusers' model of four channels and without attention in the middle.
func TestGoldenChannels(t *testing.T) {
	ref := readGolden(t, "unet-channels.safetensors")
	text, err := os.ReadFile(filepath.Join("testdata", "unet-channels.json"))
	require.NoError(t, err)
	c, err := unet.ConfigFromDiffusers(text)
	require.NoError(t, err)
	require.True(t, c.NoMidAttention)
	require.Equal(t, 4, c.InChannels)
	again, err := c.ToDiffusers()
	require.NoError(t, err)
	back, err := unet.ConfigFromDiffusers(again)
	require.NoError(t, err)
	require.Equal(t, c, back)

	m := newModel(t, newCPU(t, 2), c)
	require.NoError(t, m.Load(ref.under("weight.")))
	n, size := 2, c.SampleSize
	x, pred := make([]float32, n*size*size*4), make([]float32, n*size*size*4)
	unet.NCHWToNHWC(x, ref.values("x_t"), n, 4, size, size)
	require.NoError(t, m.Predict(pred, x, ref.integers("t")))
	got := make([]float32, len(pred))
	unet.NHWCToNCHW(got, pred, n, 4, size, size)
	requireClose(t, "prediction", ref.values("pred"), got, 1e-5, 0)
	loss, grads, err := m.LossAndGradients(unet.HostBatch{
		XT: ref.values("x_t"), Target: ref.values("eps"), T: ref.integers("t"), Layout: unet.NCHW,
	})
	require.NoError(t, err)
	require.InEpsilon(t, float64(ref.values("loss")[0]), loss, 1e-5)
	requireGrads(t, ref, "", grads, 1e-4)
}

// diffusers' own model with resnet_time_scale_shift "scale_shift": names and shapes of
// all parameters, the prediction, the loss and every gradient.
func TestGoldenScaleShift(t *testing.T) {
	ref := readGolden(t, "unet-scale-shift.safetensors")
	text, err := os.ReadFile(filepath.Join("testdata", "unet-scale-shift.json"))
	require.NoError(t, err)
	c, err := unet.ConfigFromDiffusers(text)
	require.NoError(t, err)
	require.True(t, c.ScaleShift)
	again, err := c.ToDiffusers()
	require.NoError(t, err)
	back, err := unet.ConfigFromDiffusers(again)
	require.NoError(t, err)
	require.Equal(t, c, back)

	for _, fused := range []bool{true, false} {
		be := newCPU(t, 2)
		if !fused {
			be = compose{be}
		}
		m := newModel(t, be, c)
		require.NoError(t, m.Load(ref.under("weight.")))
		x, ts := ref.values("x_t"), ref.integers("t")
		pred := make([]float32, len(x)) // one channel: NCHW is NHWC
		require.NoError(t, m.Predict(pred, x, ts))
		requireClose(t, "prediction", ref.values("pred"), pred, 1e-5, 0)
		loss, grads, err := m.LossAndGradients(unet.HostBatch{
			XT: x, Target: ref.values("eps"), T: ts, Layout: unet.NCHW, Train: true,
		})
		require.NoError(t, err)
		require.InEpsilon(t, float64(ref.values("loss")[0]), loss, 1e-5)
		requireGrads(t, ref, "", grads, 1e-4)
	}
}

// requireGrads compares every gradient with the reference to 1e-4 of its tensor's norm, or
// of the floor's share of the global norm where that is more: the gradient of a key's
// bias is zero but for rounding.
func requireGrads(t *testing.T, ref golden, prefix string, got map[string][]float32, floor float64) {
	t.Helper()
	want := ref.under(prefix + "grad.")
	require.Len(t, got, len(want))
	var global float64
	for _, w := range want {
		global += norm(w.Data) * norm(w.Data)
	}
	for _, w := range want {
		requireClose(t, "gradient of "+w.Name, w.Data, got[w.Name], 1e-4, floor*math.Sqrt(global))
	}
}

// requireClose compares ||got - want|| with tolerance x max(||want||, floor).
func requireClose(t *testing.T, what string, want, got []float32, tolerance, floor float64) {
	t.Helper()
	require.Len(t, got, len(want), what)
	diff := make([]float32, len(want))
	for i := range want {
		diff[i] = got[i] - want[i]
	}
	require.LessOrEqual(t, norm(diff), tolerance*max(norm(want), floor), what)
}

func norm(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s)
}
