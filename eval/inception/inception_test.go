package inception

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/pth"
	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// uniform is golden.py's: a hash of the index.
func uniform(dst []float32, seed uint64) {
	for i := range dst {
		z := uint64(i) + seed*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		dst[i] = float32(z>>40) / (1 << 24)
	}
}

// stateDict is golden.py's weights: by formula, in the order of the names.
func stateDict() map[string]pth.Tensor {
	out := map[string]pth.Tensor{"fc.weight": {Shape: []int{Classes, Features}}, "fc.bias": {Shape: []int{Classes}}}
	for _, l := range layers() {
		out[l.name+".conv.weight"] = pth.Tensor{Shape: []int{l.out, l.in, l.kh, l.kw}}
		for _, n := range []string{"weight", "bias", "running_mean", "running_var"} {
			out[l.name+".bn."+n] = pth.Tensor{Shape: []int{l.out}}
		}
	}
	names := make([]string, 0, len(out))
	for n := range out {
		names = append(names, n)
	}
	slices.Sort(names)
	for i, name := range names {
		t := out[name]
		n := 1
		for _, d := range t.Shape {
			n *= d
		}
		t.Data = make([]float32, n)
		uniform(t.Data, uint64(i+1))
		bound := float32(math.Sqrt(6 / (float64(n) / float64(t.Shape[0]))))
		for j, u := range t.Data {
			switch {
			case strings.HasSuffix(name, "running_var"), strings.HasSuffix(name, "bn.weight"):
				t.Data[j] = 0.5 + u
			case strings.HasSuffix(name, "running_mean"), strings.HasSuffix(name, "bias"):
				t.Data[j] = 0.2*u - 0.1
			default:
				t.Data[j] = (2*u - 1) * bound
			}
		}
		out[name] = t
	}
	return out
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

// Features and logits are those of pytorch-fid's network in PyTorch, to 1e-4 of their
// size, in batches that divide the images and that do not.
func TestGolden(t *testing.T) {
	w, err := fold(stateDict())
	require.NoError(t, err)
	const count = 3
	images := make([]float32, count*32*32*3)
	for i := range count {
		image := images[i*3072 : (i+1)*3072]
		uniform(image, uint64(1000+i))
		for j, v := range image {
			image[j] = 2*v - 1
		}
	}
	wantF, wantL := golden(t, "features", count*Features), golden(t, "logits", count*Classes)
	be := cpu.New(cpu.Config{Threads: 2})
	defer be.Close()
	n, err := New(be, w, 2)
	require.NoError(t, err)
	features, logits := make([]float32, count*Features), make([]float32, count*Classes)
	require.NoError(t, n.Extract(features, logits, images, 32, 32, 3))
	requireNear(t, wantF, features)
	requireNear(t, wantL, logits)

	// An image's features do not depend on its neighbours.
	alone := make([]float32, Features)
	require.NoError(t, n.Extract(alone, make([]float32, Classes), images[2*3072:], 32, 32, 3))
	require.Equal(t, features[2*Features:], alone)
}

// requireNear requires the error's norm to be below 1e-4 of that of the values.
func requireNear(t *testing.T, want []float64, got []float32) {
	t.Helper()
	var e, size float64
	for i, w := range want {
		d := float64(got[i]) - w
		e += d * d
		size += w * w
	}
	require.Less(t, math.Sqrt(e/size), 1e-4)
}

// One channel stands for three equal ones.
func TestResize(t *testing.T) {
	gray, rgb := make([]float32, 5*7), make([]float32, 5*7*3)
	uniform(gray, 3)
	for i, v := range gray {
		rgb[3*i], rgb[3*i+1], rgb[3*i+2] = v, v, v
	}
	a, b := make([]float32, side*side*3), make([]float32, side*side*3)
	resize(a, gray, 5, 7, 1)
	resize(b, rgb, 5, 7, 3)
	require.Equal(t, a, b)
	require.Equal(t, gray[0], a[0], "corners are clamped")
	require.Equal(t, gray[34], a[len(a)-1])
	same := make([]float32, side*side*3)
	uniform(same, 4)
	resize(a, same, side, side, 3)
	require.Equal(t, same, a)
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "no.pth"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, URL)
	require.ErrorContains(t, err, Published)
	_, err = Open("../../checkpoint/pth/testdata/zip.pth")
	require.ErrorIs(t, err, ErrNotPublished)
	require.ErrorContains(t, err, "SHA-256")
	require.ErrorContains(t, err, URL)
	path := filepath.Join(dir, "w.safetensors")
	require.NoError(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	_, err = Open(path)
	require.Error(t, err)

	var small []safetensors.Tensor
	small = append(small, safetensors.Tensor{Name: "fc.weight", DType: safetensors.F32, Shape: []int{2, 2}, Data: safetensors.Float32s{1, 2, 3, 4}})
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, safetensors.Write(f, small, nil))
	require.NoError(t, f.Close())
	_, err = Open(path)
	require.ErrorIs(t, err, ErrWeights)
	require.NotContains(t, err.Error(), "\n")

	bad := stateDict()
	bad["Mixed_7c.branch_pool.bn.bias"] = pth.Tensor{Shape: []int{191}, Data: make([]float32, 191)}
	_, err = fold(bad)
	require.ErrorIs(t, err, ErrWeights)
	require.ErrorContains(t, err, `"Mixed_7c.branch_pool.bn.bias" is [191], not [192]`)
}

// A converted file has the same weights, and says what it was made of.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
	var list []safetensors.Tensor
	for name, v := range stateDict() {
		list = append(list, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: v.Shape, Data: safetensors.Float32s(v.Data)})
	}
	slices.SortFunc(list, func(a, b safetensors.Tensor) int { return strings.Compare(b.Name, a.Name) })
	f, err := os.Create(from)
	require.NoError(t, err)
	require.NoError(t, safetensors.Write(f, list, nil))
	require.NoError(t, f.Close())
	want, err := Open(from)
	require.NoError(t, err)
	require.NoError(t, Convert(from, to))
	got, err := Open(to)
	require.NoError(t, err)
	require.Equal(t, want.convs, got.convs)
	require.Equal(t, want.fc, got.fc)
	made, err := safetensors.ReadFile(to)
	require.NoError(t, err)
	defer func() { require.NoError(t, made.Close()) }()
	require.Equal(t, want.Digest, made.Metadata()["source.sha256"][:16])

	require.NoError(t, os.WriteFile(from, []byte("nonsense"), 0o600))
	require.Error(t, Convert(from, to))
	_, err = Open(to)
	require.NoError(t, err, "what was there stays")
	require.ErrorIs(t, Convert("../../checkpoint/pth/testdata/zip.pth", to), ErrNotPublished)
}

func BenchmarkExtract(b *testing.B) {
	w, err := fold(stateDict())
	require.NoError(b, err)
	be := cpu.New(cpu.Config{Threads: 1})
	defer be.Close()
	const batch = 4
	n, err := New(be, w, batch)
	require.NoError(b, err)
	images := make([]float32, batch*3072)
	features, logits := make([]float32, batch*Features), make([]float32, batch*Classes)
	for b.Loop() {
		require.NoError(b, n.Extract(features, logits, images, 32, 32, 3))
	}
	b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "images/s")
}
