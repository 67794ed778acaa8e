package main

import (
	"bytes"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval/npz"
)

// arrayFile writes random images of any number of channels.
func arrayFile(t *testing.T, path string, n, size, channels int) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	w, err := npz.NewBytes(f, "arr_0", n, size, size, channels)
	require.NoError(t, err)
	pixels := make([]byte, n*size*size*channels)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range pixels {
		pixels[i] = byte(r.Uint32())
	}
	_, err = w.Write(pixels)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
}

// Images of two, four and six channels, and a network without attention in the middle, go
// all the way: training on any number of workers, export, import, sampling.
func TestChannels(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	for _, channels := range []string{"2", "4", "6"} {
		file := filepath.Join(work, channels+".npz")
		arrayFile(t, file, 40, 8, int(channels[0]-'0'))
		train := func(name string, more ...string) string {
			dir := filepath.Join(work, channels+name)
			run(t, training(dir, append([]string{
				"--set", "data.name=npz", "--set", "data.dir=" + file, "--set", "model.in_channels=" + channels,
				"--set", "model.add_attention=false", "--set", "train.steps=8",
			}, more...)...)...).ended(exitOK)
			return dir
		}
		one, two := train("-one", "--workers", "1"), train("-two", "--workers", "2")
		require.Equal(t, finish(t, one).ModelDigest, finish(t, two).ModelDigest)
		require.FileExists(t, filepath.Join(one, "samples", "step-8.png"))

		pipeline, back := filepath.Join(work, channels+"-pipeline"), filepath.Join(work, channels+"-back")
		run(t, "checkpoint", "export", one, pipeline).ended(exitOK)
		text, err := os.ReadFile(filepath.Join(pipeline, "unet", "config.json"))
		require.NoError(t, err)
		require.Contains(t, string(text), `"add_attention": false`)
		require.Contains(t, string(text), `"in_channels": `+channels)
		run(t, "checkpoint", "import", pipeline, back).ended(exitOK)
		sample := func(from, out string) []byte {
			path := filepath.Join(work, channels+out)
			run(t, "sample", "--from", from, "-n", "4", "--seed", "3", "--steps", "2", "--sampler", "ddim", "--out", path).ended(exitOK)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			return b
		}
		want := sample(one, "a.npz")
		require.Equal(t, want, sample(pipeline, "b.npz"))
		require.Equal(t, want, sample(back, "c.npz"))
		_, err = png.Decode(bytes.NewReader(sample(one, "grid.png")))
		require.NoError(t, err)
	}
	// A folder of single images is data again: of up to four channels, the same.
	images := filepath.Join(work, "images")
	run(t, "sample", "--from", filepath.Join(work, "4-one"), "-n", "4", "--seed", "3", "--steps", "2", "--sampler", "ddim", "--out", images).ended(exitOK)
	again := filepath.Join(work, "again")
	run(t, training(again, "--set", "data.name=folder", "--set", "data.dir="+images, "--set", "model.in_channels=4", "--set", "train.steps=2")...).ended(exitOK)
	refused(t, run(t, training(filepath.Join(work, "no"), "--set", "data.name=folder", "--set", "data.dir="+images, "--set", "model.in_channels=5")...),
		exitConfig, "model.in_channels is 5", "data.name npz any number")
}
