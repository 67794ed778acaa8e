package classifier

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func processor(t *testing.T, c cpu.Config) *cpu.Backend {
	t.Helper()
	be := cpu.New(c)
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	return be
}

func digits(t *testing.T) data.Dataset {
	t.Helper()
	set, err := data.Open(data.DefaultConfig())
	require.NoError(t, err)
	return set
}

// squares is a labelled set that a few steps learn: the class is the bright corner.
type squares struct{ n, side, channels int }

func (s squares) Name() string                        { return "squares" }
func (s squares) Len() int                            { return s.n }
func (s squares) Size() (height, width, channels int) { return s.side, s.side, s.channels }
func (s squares) Label(i int) int                     { return i * 7 % 4 }
func (s squares) Read(dst []float32, i int) error {
	rng.New(5, rng.StreamNoise).Uniform(dst, uint64(i))
	half, l := s.side/2, s.Label(i)
	for at := range dst {
		x, y := at/s.channels%s.side/half, at/s.channels/s.side/half
		dst[at] = 0.4*dst[at] - 0.7
		if 2*y+x == l {
			dst[at] += 0.8
		}
	}
	return nil
}

func TestEmbeddedDigits(t *testing.T) {
	set := digits(t)
	k, err := Open(context.Background(), processor(t, cpu.Config{Threads: 2}), set, Options{})
	require.NoError(t, err)
	require.Equal(t, "cpu/go", k.identity.Kernels)
	accuracy, err := k.Accuracy(set)
	require.NoError(t, err)
	require.Greater(t, accuracy, 0.98, "on images that training has not seen")
	digest, err := k.Digest()
	require.NoError(t, err)
	require.Equal(t, "7018c7948638ad39", digest, "scores that were published name it")
}

// The weights are a function of configuration, data and kernels: the same bits on
// every amd64 machine that computes in plain Go, for any number of threads.
func TestTrainingIsDeterministic(t *testing.T) {
	set := squares{n: 60, side: 8, channels: 1}
	c := ConfigFor(8, 1, 4, set.n)
	c.Widths, c.Epochs = []int{8, 8}, 2
	if runtime.GOARCH != "amd64" {
		t.Skip("other architectures fuse multiplications and additions")
	}
	for threads := 1; threads <= 2; threads++ {
		k, err := TrainNew(context.Background(), processor(t, cpu.Config{Threads: threads, Kernels: "go"}), set, c)
		require.NoError(t, err)
		digest, err := k.Digest()
		require.NoError(t, err)
		require.Equal(t, "1a0a44d24f9d8d46", digest)
	}
}

func TestTrainingLearns(t *testing.T) {
	set := squares{n: 300, side: 16, channels: 3}
	c := ConfigFor(16, 3, 4, set.n)
	c.Widths, c.Epochs = []int{8, 8, 16}, 6
	k, err := TrainNew(context.Background(), processor(t, cpu.Config{Threads: 2}), set, c)
	require.NoError(t, err)
	accuracy, err := k.Accuracy(set)
	require.NoError(t, err)
	require.Greater(t, accuracy, 0.95)
}

// An image's features and logits are the same bits in any company.
func TestClassifyOneByOne(t *testing.T) {
	set := digits(t)
	k, err := Open(context.Background(), processor(t, cpu.Config{Threads: 2}), set, Options{})
	require.NoError(t, err)
	const n = batch + 7
	c := k.Config()
	images, features, logits := make([]float32, n*c.ImageLen()), make([]float32, n*c.Features), make([]float32, n*c.Classes)
	for i := range n {
		require.NoError(t, set.Read(images[i*c.ImageLen():][:c.ImageLen()], i))
	}
	require.NoError(t, k.Classify(features, logits, images))
	one, oneLogits := make([]float32, c.Features), make([]float32, c.Classes)
	for _, i := range []int{0, 5, batch, n - 1} {
		require.NoError(t, k.Classify(one, oneLogits, images[i*c.ImageLen():][:c.ImageLen()]))
		require.Equal(t, features[i*c.Features:][:c.Features], one)
		require.Equal(t, logits[i*c.Classes:][:c.Classes], oneLogits)
	}
}

func TestCache(t *testing.T) {
	be := processor(t, cpu.Config{Threads: 2})
	set := squares{n: 60, side: 8, channels: 1}
	dir := filepath.Join(t.TempDir(), "cache")
	trained := 0
	open := func() string {
		k, err := Open(context.Background(), be, set, Options{CacheDir: dir, Progress: func(done, _ int) {
			if done == 1 {
				trained++
			}
		}})
		require.NoError(t, err)
		digest, err := k.Digest()
		require.NoError(t, err)
		return digest
	}
	first := open()
	require.Equal(t, first, open())
	require.Equal(t, 1, trained, "the second time from the cache")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.Truncate(files[0], 1000))
	require.Equal(t, first, open(), "a damaged file is replaced")
	require.Equal(t, 2, trained)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	b[len(b)-5] ^= 1 // of a weight
	require.NoError(t, os.WriteFile(files[0], b, 0o600))
	require.Equal(t, first, open(), "a weight that was changed is found")
	require.Equal(t, 3, trained)
}

// unlabelled has no classes.
type unlabelled struct{ squares }

func (unlabelled) Label(int) int { return -1 }

func TestRefusals(t *testing.T) {
	be := processor(t, cpu.Config{Threads: 1})
	_, err := Open(context.Background(), be, unlabelled{squares{n: 20, side: 8, channels: 1}}, Options{})
	require.ErrorContains(t, err, "no labels")
	_, err = New(be, Config{})
	require.ErrorContains(t, err, "size is 0")
	c := ConfigFor(8, 1, 10, 1797)
	c.Widths = []int{12}
	require.ErrorContains(t, c.Validate(), "multiple of 8")
	_, err = TrainNew(context.Background(), be, squares{n: 20, side: 8, channels: 1}, ConfigFor(8, 1, 2, 20))
	require.ErrorContains(t, err, "label")
	_, err = TrainNew(context.Background(), be, squares{n: 20, side: 16, channels: 1}, ConfigFor(8, 1, 4, 20))
	require.ErrorContains(t, err, "16x16x1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = TrainNew(ctx, be, squares{n: 20, side: 8, channels: 1}, ConfigFor(8, 1, 4, 20))
	require.ErrorIs(t, err, context.Canceled)
}
