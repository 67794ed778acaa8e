package recipe_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// hub unpacks testdata/hub.tar.gz.
func hub(t *testing.T) string {
	t.Helper()
	packed, err := os.Open("testdata/hub.tar.gz")
	require.NoError(t, err)
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	require.NoError(t, err)
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), data, 0o600))
	}
}

func golden(t *testing.T, name string, n int) []float64 {
	t.Helper()
	f, err := npz.Open("testdata/golden.npz")
	require.NoError(t, err)
	defer f.Close()
	a, err := f.Open(name)
	require.NoError(t, err)
	defer a.Close()
	values := make([]float64, n)
	require.NoError(t, a.Read(values))
	return values
}

// A repository as google/ddpm-cifar10-32 is (a pickle, attention under its older names,
// fields of today absent) predicts what diffusers predicts in float64, to 1e-5.
func TestHubLayout(t *testing.T) {
	src, err := rundir.OpenWeights(t.Context(), hub(t), false)
	require.NoError(t, err)
	require.Equal(t, rundir.Pipeline, src.Kind)
	forward(t, src)

	// The same weights as safetensors come first; the pickle is not looked at then.
	dir := hub(t)
	var list []safetensors.Tensor
	for _, w := range src.Weights() {
		list = append(list, safetensors.Tensor{Name: w.Name, DType: safetensors.F32, Shape: w.Shape, Data: safetensors.Float32s(w.Data)})
	}
	f, err := os.Create(filepath.Join(dir, "diffusion_pytorch_model.safetensors"))
	require.NoError(t, err)
	require.NoError(t, safetensors.Write(f, list, nil))
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "diffusion_pytorch_model.bin"), []byte("nonsense"), 0o600))
	src, err = rundir.OpenWeights(t.Context(), dir, false)
	require.NoError(t, err)
	forward(t, src)
}

func forward(t *testing.T, src *rundir.Source) {
	t.Helper()
	r, err := recipe.Of(src)
	require.NoError(t, err)
	require.NoError(t, recipe.Trainable(src, r))
	for i, w := range golden(t, "alphas_cumprod", 1000) {
		require.InEpsilon(t, w, r.Schedule.AlphasCumprod[i], 1e-5)
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, dev.Close()) }()
	model, err := setup.Model(dev.Backend, r.Config)
	require.NoError(t, err)
	require.NoError(t, model.Load(src.Weights()))
	const n, each = 4, 3 * 8 * 8
	nchw, in, out := make([]float32, n*each), make([]float32, n*each), make([]float32, n*each)
	for i, v := range golden(t, "x", n*each) {
		nchw[i] = float32(v)
	}
	unet.NCHWToNHWC(in, nchw, n, 3, 8, 8)
	var steps []int64
	for _, v := range golden(t, "t", n) {
		steps = append(steps, int64(v))
	}
	require.NoError(t, model.Predict(out, in, steps))
	unet.NHWCToNCHW(nchw, out, n, 3, 8, 8)
	var e, size float64
	for i, w := range golden(t, "eps", n*each) {
		e += (float64(nchw[i]) - w) * (float64(nchw[i]) - w)
		size += w * w
	}
	require.Less(t, math.Sqrt(e/size), 1e-5)
}
