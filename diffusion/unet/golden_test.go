package unet_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func newCPU(t testing.TB, threads int) tensor.Backend {
	t.Helper()
	be := cpu.New(cpu.Config{Threads: threads})
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	return be
}

func newModel(t testing.TB, be tensor.Backend, c unet.Config) *unet.Model {
	t.Helper()
	m, err := unet.New(be, c)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

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

			pred := make([]float32, len(ref["x_t"].Data))
			require.NoError(t, m.Predict(pred, ref["x_t"].Data, ts)) // one channel: NCHW is NHWC
			requireClose(t, "prediction", ref["pred"].Data, pred, 1e-5, 0)

			loss, grads, err := m.LossAndGradients(unet.HostBatch{
				XT: ref["x_t"].Data, Target: ref["eps"].Data, T: ts, Layout: unet.NCHW, Train: true,
			})
			require.NoError(t, err)
			require.InEpsilon(t, float64(ref["loss"].Data[0]), loss, 1e-5)
			requireGrads(t, ref, grads)
		})
	}
}

// requireGrads holds every gradient to 1e-4 of its tensor's norm, or of 1e-5 of
// the global norm where that is more: the gradient of a key's bias is zero but
// for rounding.
func requireGrads(t *testing.T, ref golden, got map[string][]float32) {
	t.Helper()
	want := ref.under("grad.")
	require.Len(t, got, len(want))
	var global float64
	for _, w := range want {
		global += norm(w.Data) * norm(w.Data)
	}
	for _, w := range want {
		requireClose(t, "gradient of "+w.Name, w.Data, got[w.Name], 1e-4, 1e-5*math.Sqrt(global))
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
