package pytorchddpm_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/pth"
	"github.com/agrdist/agrdist/checkpoint/pytorchddpm"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// ckpt is testdata/ckpt.pt.gz, unpacked.
func ckpt(t *testing.T) string {
	t.Helper()
	packed, err := os.Open("testdata/ckpt.pt.gz")
	require.NoError(t, err)
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "ckpt.pt")
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.Copy(f, z)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return path
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

// The imported model computes what pytorch-ddpm's computes in float64, to 1e-5.
func TestForward(t *testing.T) {
	c, err := pytorchddpm.ReadFile(ckpt(t), true)
	require.NoError(t, err)
	config, err := unet.ConfigFromDiffusers(c.UNetConfig)
	require.NoError(t, err)
	require.Equal(t, unet.Config{
		SampleSize: 8, InChannels: 3, OutChannels: 3, BlockOutChannels: []int{32, 64}, LayersPerBlock: 1, AttentionLevels: []int{1},
		NormNumGroups: 32, NormEps: 1e-5, Dropout: 0.1, DownsamplePadding: 1,
	}, config)
	const n, each = 4, 3 * 8 * 8
	x := make([]float32, n*each)
	for i, v := range golden(t, "x", n*each) {
		x[i] = float32(v)
	}
	var steps []int64
	for _, v := range golden(t, "t", n) {
		steps = append(steps, int64(v))
	}
	in, got := make([]float32, len(x)), make([]float32, len(x))
	unet.NCHWToNHWC(in, x, n, 3, 8, 8)
	be := cpu.New(cpu.Config{Threads: 1})
	defer be.Close()
	model, err := unet.New(be, config)
	require.NoError(t, err)
	for name, tensors := range map[string][]weights.Tensor{"net": c.Net, "ema": c.EMA} {
		require.NoError(t, model.Load(tensors))
		out := make([]float32, len(x))
		require.NoError(t, model.Predict(out, in, steps))
		unet.NHWCToNCHW(got, out, n, 3, 8, 8)
		var e, size float64
		for i, w := range golden(t, name, len(x)) {
			e += (float64(got[i]) - w) * (float64(got[i]) - w)
			size += w * w
		}
		require.Less(t, math.Sqrt(e/size), 1e-5, name)
	}
	c, err = pytorchddpm.ReadFile(ckpt(t), false)
	require.NoError(t, err)
	require.Nil(t, c.EMA)
}

// The names are those of the table that was made from the two libraries.
func TestNames(t *testing.T) {
	text, err := os.ReadFile("testdata/names.json")
	require.NoError(t, err)
	var want map[string]string
	require.NoError(t, json.Unmarshal(text, &want))
	got := map[string]string{}
	for _, n := range (pytorchddpm.Shape{Levels: 4, Blocks: 2, Attention: []int{1}}).Names() {
		if _, needed := want[n.Theirs]; needed || !strings.Contains(n.Theirs, "shortcut") {
			got[n.Theirs] = n.Diffusers
		}
	}
	require.Equal(t, want, got)
}

// What is not this model is refused in one line that names the tensor.
func TestRefusals(t *testing.T) {
	f, err := pth.Open(ckpt(t))
	require.NoError(t, err)
	defer f.Close()
	good, err := f.Tensors("net_model")
	require.NoError(t, err)
	zeros := func(shape ...int) pth.Tensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return pth.Tensor{Shape: shape, Data: make([]float32, n)}
	}
	nan := zeros(32)
	nan.Data[3] = float32(math.NaN())
	for want, change := range map[string]func(map[string]pth.Tensor){
		`"tail.0.bias" is missing`:            func(m map[string]pth.Tensor) { delete(m, "tail.0.bias") },
		`it also has "extra"`:                 func(m map[string]pth.Tensor) { m["extra"] = zeros(1) },
		`"head.weight" is missing; it is a m`: func(m map[string]pth.Tensor) { delete(m, "head.weight"); m["conv_in.weight"] = zeros(1) },
		`the formula's value is`:              func(m map[string]pth.Tensor) { m["time_embedding.timembedding.0.weight"] = zeros(1000, 32) },
		`element 3 of "head.bias" is NaN`:     func(m map[string]pth.Tensor) { m["head.bias"] = nan },
		`"upblocks.4.block1.0.weight" is mis`: func(m map[string]pth.Tensor) { delete(m, "upblocks.4.block1.0.weight") },
	} {
		m := maps.Clone(good)
		change(m)
		_, err := pytorchddpm.Convert(m, 32)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, pytorchddpm.ErrModel)
		require.NotContains(t, err.Error(), "\n")
	}
	parallel := map[string]pth.Tensor{}
	for name, tensor := range good {
		parallel["module."+name] = tensor
	}
	_, err = pytorchddpm.Convert(parallel, 32)
	require.NoError(t, err, "of DataParallel")

	_, err = pytorchddpm.ReadFile("../pth/testdata/zip.pth", true)
	require.ErrorIs(t, err, pytorchddpm.ErrModel)
	_, err = pytorchddpm.ReadFile("../pth/testdata/evil.pth", true)
	require.ErrorIs(t, err, pth.ErrForbidden)
}
