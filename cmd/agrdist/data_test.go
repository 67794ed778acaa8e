package main

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
)

func TestDataInfo(t *testing.T) {
	t.Parallel()
	images := photos(t, 5)
	sheet := filepath.Join(t.TempDir(), "sheet.png")
	p := run(t, "data", "info", images, "--sheet", sheet).ended(exitOK)
	for _, part := range []string{
		"5 images", "PNG 5", "8x8 2, 9x8 2, 10x8 1", "rgb", "classes    none", "mean ", "sheet.png, 5 images",
		"recipe (agrdist run --data " + images + "):", "model.sample_size         8\n", "model.in_channels         3\n",
	} {
		require.Contains(t, p.stdout.String(), part)
	}
	f, err := os.Open(sheet)
	require.NoError(t, err)
	m, err := png.Decode(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Greater(t, m.Bounds().Dx(), 100)

	// What cannot be used is listed, and the exit code says so.
	require.NoError(t, os.WriteFile(filepath.Join(images, "bad\xff.png"), []byte("\x89PNG\r\n\x1a\n"), 0o600))
	p = run(t, "data", "info", images, "--sheet", "none").ended(exitFailed)
	require.Contains(t, p.stdout.String(), `not used   1: 1 damaged`)
	require.Contains(t, p.stdout.String(), `"bad\xff.png": damaged: PNG that ends early`)
	require.Contains(t, p.stderr.String(), "1 image of 6 cannot be used")

	p = run(t, "data", "info", "digits", "--sheet", sheet).ended(exitOK)
	require.Contains(t, p.stdout.String(), "classes    10: 0 178, 1 182")
	refused(t, run(t, "data", "info", "/no/such"), exitConfig, "/no/such: not found", "data.dir")
	refused(t, run(t, "data", "info", images, "--sheet", "x.jpg"), exitUsage, "x.jpg", ".png")
	refused(t, run(t, "data", "info"), exitUsage, "an argument is missing")

	// The default name is after the directory, in the current one.
	require.NoError(t, os.Remove(filepath.Join(images, "bad\xff.png")))
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, "data", "info", images)
	c.Dir = t.TempDir()
	spawn(t, c, nil).ended(exitOK)
	require.FileExists(t, filepath.Join(c.Dir, filepath.Base(images)+"-sheet.png"))
}

// run --data trains colour images as what they are, prints the recipe, and yields
// to whatever is set.
func TestRunData(t *testing.T) {
	t.Parallel()
	images, root := photos(t, 5), t.TempDir()
	dir, file := filepath.Join(root, "run"), filepath.Join(root, "own.yaml")
	require.NoError(t, os.WriteFile(file, []byte("lr:\n  base: 0.003\n"), 0o600))
	args := []string{"run", "--data", images, "-c", file, "--out", dir, "--workers", "1", "--set", "train.steps=2", "--set", "sample.count=0", "--set", "checkpoint.every=0"}
	p := run(t, args...).ended(exitOK)
	require.Contains(t, p.stderr.String(), "agrdist: 5 images, 8x8 2, 9x8 2, 10x8 1; the recipe is")
	require.Contains(t, p.stderr.String(), "model.in_channels         3\n")
	c, err := config.Load(config.Source{File: filepath.Join(dir, "config.yaml")})
	require.NoError(t, err)
	require.Equal(t, config.Data{
		Name: "folder", Dir: images, Verify: "auto", Corrupt: "refuse", Fingerprint: c.Data.Fingerprint,
	}, c.Data)
	require.NotEmpty(t, c.Data.Fingerprint)
	require.Equal(t, []int{8, 3}, []int{c.Model.SampleSize, c.Model.InChannels})
	require.Equal(t, []any{0.003, int64(2), 0.999}, []any{c.LR.Base, c.Train.Steps, c.Train.EMADecay})

	refused(t, run(t, "run", "--data", "/no/such"), exitConfig, "/no/such: not found")
}
