package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rundir"
)

// draw samples into a new file and returns its bytes, which must be a picture of
// a grid.
func draw(t *testing.T, from string, more ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "grid.png")
	p := run(t, append([]string{"sample", "--from", from, "--out", out, "-n", "5", "--seed", "3"}, more...)...).ended(exitOK)
	require.Contains(t, p.stdout.String(), out+": 5 images, ")
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(text))
	require.NoError(t, err)
	require.GreaterOrEqual(t, picture.Bounds().Dx()*picture.Bounds().Dy(), 5*8*8)
	return text
}

// An image is a function of weights, sampler, seed and its number alone: not of
// the batch it is computed in, nor of where the weights lie.
func TestSample(t *testing.T) {
	t.Parallel()
	dir := reference(t)
	want := draw(t, dir)
	newest := filepath.Join(dir, "checkpoints", "step-32")

	pipeline := filepath.Join(t.TempDir(), "pipeline")
	p := run(t, "checkpoint", "export", dir, pipeline).ended(exitOK)
	require.Contains(t, p.stdout.String(), pipeline+": diffusers pipeline of step 32")
	for _, f := range []string{"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"} {
		require.FileExists(t, filepath.Join(pipeline, f))
	}
	rawPipeline := filepath.Join(t.TempDir(), "raw")
	run(t, "checkpoint", "export", "--raw", newest, rawPipeline).ended(exitOK)

	for name, args := range map[string][]string{
		"again":           {dir},
		"other batch":     {dir, "--batch", "2"},
		"one thread":      {dir, "--threads", "1"},
		"three workers":   {dir, "--batch", "1", "--workers", "3"},
		"one worker":      {dir, "--batch", "2", "--workers", "1", "--threads", "2"},
		"checkpoint":      {newest},
		"checkpoints":     {filepath.Dir(newest)},
		"diffusers":       {pipeline, "--steps", "2"},
		"diffusers batch": {pipeline, "--steps", "2", "--batch", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, draw(t, args[0], args[1:]...))
		})
	}
	for name, args := range map[string][]string{
		"other seed":   {dir, "--seed", "4"},
		"raw weights":  {dir, "--raw"},
		"other steps":  {dir, "--steps", "3"},
		"ddpm":         {dir, "--sampler", "ddpm", "--steps", "100"},
		"older":        {filepath.Join(filepath.Dir(newest), "step-24")},
		"eta":          {dir, "--eta", "1"},
		"raw pipeline": {rawPipeline, "--steps", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEqual(t, want, draw(t, args[0], args[1:]...))
		})
	}
	t.Run("raw pipeline is the raw run", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, draw(t, dir, "--raw"), draw(t, rawPipeline, "--steps", "2"))
	})
}

// The grid that a run draws at its end is what agrdist sample draws from it with
// the run's own settings.
func TestSampleOfTheRunItself(t *testing.T) {
	t.Parallel()
	dir := reference(t)
	out := filepath.Join(t.TempDir(), "grid.png")
	run(t, "sample", "--from", dir, "--out", out, "-n", "4").ended(exitOK)
	want, err := os.ReadFile(filepath.Join(dir, "samples", "step-32.png"))
	require.NoError(t, err)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestSampleRefusals(t *testing.T) {
	t.Parallel()
	dir := reference(t)
	out := filepath.Join(t.TempDir(), "grid.png")
	refused(t, run(t, "sample", "--from", dir, "--out", out, "-n", "0"), exitUsage, "-n is 0; it must be 1 or more")
	refused(t, run(t, "sample", "--from", dir, "--out", out, "--batch", "-1"), exitUsage, "--batch is -1")
	refused(t, run(t, "sample", "--from", dir, "--out", out, "--guidance", "3"), exitUsage, "not conditional")
	refused(t, run(t, "debug", "explain", filepath.Join(dir, "nope")), exitFailed, "no such directory")
	refused(t, run(t, "debug", "explain", dir), exitFailed, "nothing went wrong so far")
	refused(t, run(t, "sample", "--from", dir, "--out", out, "--sampler", "euler"), exitConfig, "euler")
	refused(t, run(t, "sample", "--from", dir, "--out", out, "--steps", "1000"), exitConfig, "1000")
	refused(t, run(t, "sample", "--from", dir, "--out", filepath.Join(out, "x", "y.png")), exitFailed, "y.png")
	require.NoFileExists(t, out)
}

// An imported run is found by its hint from any directory, and trains from the weights.
func TestImport(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	pipeline := filepath.Join(work, "pipe line")
	run(t, "checkpoint", "export", reference(t), pipeline).ended(exitOK)
	self, err := os.Executable()
	require.NoError(t, err)
	args := []string{"checkpoint", "import", pipeline, "im ported"}
	for _, s := range []string{"train.global_batch=8", "train.chunk=2", "train.steps=1", "sample.count=0", "lr.warmup_steps=1"} {
		args = append(args, "--set", s)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = work
	p := spawn(t, cmd, nil)
	p.ended(exitOK)
	require.Contains(t, p.stdout.String(), "run -c '"+filepath.Join(work, "im ported", "config.yaml")+"'")

	p = run(t, "run", "-c", filepath.Join(work, "im ported", "config.yaml")).ended(exitOK) // elsewhere
	require.Contains(t, p.stderr.String(), "resuming "+filepath.Join(work, "im ported")+" at step 0 of 1")
	// One step at a rate of nearly 0 leaves the weights as they were.
	require.Equal(t, draw(t, pipeline, "--steps", "2"), draw(t, filepath.Join(work, "im ported", "checkpoints", "step-0"), "--steps", "2", "--sampler", "ddim"))
}

// Every form of --out has the same images, and what cannot be written is refused before
// anything is computed.
func TestSampleOut(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	sample := func(out string, more ...string) *process {
		return run(t, append([]string{"sample", "--from", reference(t), "-n", "5", "--seed", "3", "--batch", "2", "--out", filepath.Join(work, out)}, more...)...)
	}
	sample("all").ended(exitOK)
	sample("all.npz").ended(exitOK)
	f, err := npz.Open(filepath.Join(work, "all.npz"))
	require.NoError(t, err)
	defer f.Close()
	array, err := f.Open("arr_0")
	require.NoError(t, err)
	require.Equal(t, int64(5*8*8), array.Len())
	pixels := make([]float64, 5*8*8)
	require.NoError(t, array.Read(pixels))
	for i := range 5 {
		text, err := os.ReadFile(filepath.Join(work, "all", fmt.Sprintf("%08d.png", i)))
		require.NoError(t, err)
		picture, err := png.Decode(bytes.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, image.Rect(0, 0, 8, 8), picture.Bounds())
		for p := range 64 {
			require.InDelta(t, pixels[64*i+p], picture.(*image.Gray).GrayAt(p%8, p/8).Y, 0, "image %d", i)
		}
	}
	require.NoError(t, os.Mkdir(filepath.Join(work, "taken"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(work, "taken", "notes.txt"), nil, 0o600))
	for _, c := range []struct {
		out  string
		more []string
		code int
		text string
	}{
		{"x.jpg", nil, exitUsage, `".jpg" is no format that can be written; give FILE.png`},
		{"none/x.png", nil, exitFailed, "there is no directory"},
		{"taken", nil, exitFailed, "choose another directory or empty it first"},
		{"x.png", []string{"--steps", "0"}, exitUsage, "--steps is 0"},
		{"x.png", []string{"-n", "100000000"}, exitFailed, "--out DIR or FILE.npz writes any number"},
	} {
		p := sample(c.out, c.more...)
		require.Equal(t, c.code, p.wait(), c.out)
		require.Contains(t, p.stderr.String(), c.text)
	}
	left, err := filepath.Glob(filepath.Join(work, "*"))
	require.NoError(t, err)
	require.Len(t, left, 3, "%q", left)
	hidden, err := filepath.Glob(filepath.Join(work, ".*"))
	require.NoError(t, err)
	require.Empty(t, hidden)
}

// A checkpoint of pytorch-ddpm is sampled from, exported and imported like any model.
func TestPyTorchCheckpoint(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	ckpt := filepath.Join(work, "ckpt.pt")
	packed, err := os.Open("../../checkpoint/pytorchddpm/testdata/ckpt.pt.gz")
	require.NoError(t, err)
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	require.NoError(t, err)
	unpacked, err := io.ReadAll(z)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ckpt, unpacked, 0o600))

	fast := []string{"--steps", "2", "--seed", "3"}
	averaged, raw := draw(t, ckpt, fast...), draw(t, ckpt, append(fast, "--raw")...)
	require.NotEqual(t, averaged, raw)
	pipeline := filepath.Join(work, "pipeline")
	run(t, "checkpoint", "export", ckpt, pipeline).ended(exitOK)
	require.Equal(t, averaged, draw(t, pipeline, fast...))
	run(t, "checkpoint", "export", "--raw", ckpt, filepath.Join(work, "raw")).ended(exitOK)
	require.Equal(t, raw, draw(t, filepath.Join(work, "raw"), fast...))
	run(t, "checkpoint", "import", ckpt, filepath.Join(work, "run"), "--set", "data.name=cifar10", "--set", "data.dir="+work).ended(exitOK)
	require.Equal(t, averaged, draw(t, filepath.Join(work, "run"), append(fast, "--sampler", "ddpm")...))

	refused(t, run(t, "checkpoint", "import", "../../checkpoint/pth/testdata/evil.pth", filepath.Join(work, "evil")), exitFailed, "system")
	refused(t, run(t, "checkpoint", "import", filepath.Join(work, "run"), filepath.Join(work, "again")), exitFailed, "is a run of agrdist")
	refused(t, run(t, "sample", "--from", "../../checkpoint/pth/testdata/zip.pth", "--out", filepath.Join(work, "x.png")), exitFailed, "not those of pytorch-ddpm")
}

// The denoising is drawn as an animation and as a strip, the same bytes for any number of
// workers, and its end is what --out shows.
func TestTrace(t *testing.T) {
	t.Parallel()
	dir, work := reference(t), t.TempDir()
	traced := func(name string, more ...string) []byte {
		path := filepath.Join(work, name)
		run(t, append([]string{"sample", "--from", dir, "--out", filepath.Join(work, "out-"+name), "-n", "6", "--batch", "4", "--steps", "3", "--trace", path}, more...)...).ended(exitOK)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	animation := traced("a.png")
	require.Equal(t, animation, traced("b.png", "--workers", "2"))
	require.Equal(t, 4, bytes.Count(animation, []byte("fcTL")), "the noise and three steps")
	run(t, "sample", "--from", dir, "--out", filepath.Join(work, "four.png"), "-n", "4", "--steps", "3").ended(exitOK)
	want, err := os.ReadFile(filepath.Join(work, "four.png"))
	require.NoError(t, err)
	end, err := png.Decode(bytes.NewReader(want))
	require.NoError(t, err)
	still, err := png.Decode(bytes.NewReader(animation))
	require.NoError(t, err)
	require.Equal(t, end, still)

	strip, err := png.Decode(bytes.NewReader(traced("strip.png", "--trace-as", "strip")))
	require.NoError(t, err)
	require.Equal(t, strip.Bounds().Dx(), strip.Bounds().Dy(), "four frames of four images")
	require.NotEqual(t, end, strip)

	sample := func(more ...string) *process {
		return run(t, append([]string{"sample", "--from", dir, "--out", filepath.Join(work, "x.png")}, more...)...)
	}
	refused(t, sample("--trace", filepath.Join(work, "t.gif")), exitUsage, "must end in .png")
	refused(t, sample("--trace", filepath.Join(work, "none", "t.png")), exitFailed, "--trace", "none")
	refused(t, sample("--trace", filepath.Join(work, "x.png")), exitUsage, "different names")
	refused(t, sample("--trace", filepath.Join(work, "t.png"), "--trace-as", "film"), exitUsage, `"film"`)
	require.NoFileExists(t, filepath.Join(work, "x.png"))
}

// An interrupted command continues, whatever the workers, and gives what an uninterrupted
// one gives; a directory takes more of the same images and no others.
func TestSampleContinues(t *testing.T) {
	t.Parallel()
	dir, work := reference(t), t.TempDir()
	args := func(out string, n int, more ...string) []string {
		return append([]string{"sample", "--from", dir, "--out", filepath.Join(work, out), "-n", fmt.Sprint(n), "--batch", "2", "--steps", "20"}, more...)
	}
	run(t, args("whole.npz", 60)...).ended(exitOK)
	want, err := os.ReadFile(filepath.Join(work, "whole.npz"))
	require.NoError(t, err)
	part := func() int64 {
		names, _ := filepath.Glob(filepath.Join(work, ".cut.npz.*.part"))
		if len(names) == 0 {
			return 0
		}
		info, err := os.Stat(names[0])
		if err != nil {
			return 0
		}
		return info.Size()
	}
	p := start(t, args("cut.npz", 60, "--workers", "2")...)
	p.await("the first images", func() bool { return part() > 0 || exists(filepath.Join(work, "cut.npz")) })
	_ = p.cmd.Process.Kill() // where the machine is fast, it has ended
	p.wait()
	run(t, args("cut.npz", 60, "--workers", "1")...).ended(exitOK)
	got, err := os.ReadFile(filepath.Join(work, "cut.npz"))
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Zero(t, part(), "nothing is left beside it")

	p = start(t, args("images", 60, "--workers", "2")...)
	first := filepath.Join(work, "images", "00000001.png")
	p.await("an image", func() bool { return exists(first) })
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != exitOK { // it may have ended
		require.Equal(t, exitSignal, code)
		require.Contains(t, p.stderr.String(), "the same command continues")
	}
	old, err := os.Stat(first)
	require.NoError(t, err)
	run(t, args("images", 60)...).ended(exitOK)
	run(t, args("images", 64)...).ended(exitOK)
	again, err := os.Stat(first)
	require.NoError(t, err)
	require.Equal(t, old.ModTime(), again.ModTime(), "images that are there stay")
	run(t, args("all", 64, "--workers", "1")...).ended(exitOK)
	for i := range 64 {
		name := fmt.Sprintf("%08d.png", i)
		a, err := os.ReadFile(filepath.Join(work, "images", name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(work, "all", name))
		require.NoError(t, err)
		require.Equal(t, b, a, name)
	}
	refused(t, run(t, args("images", 64, "--seed", "9")...), exitFailed, "another sampler, seed", "choose another directory")
}

// A length of the average is chosen after the training: the export is the combination of
// the kept checkpoints' averages.
func TestExportEMALength(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := filepath.Join(work, "run")
	run(t, training(dir, "--set", "checkpoint.keep=10", "--set", "train.ema_decay=0.9", "--set", "checkpoint.every=4", "--set", "lr.base=0.01")...).ended(exitOK)
	out := filepath.Join(work, "pipe")
	p := run(t, "checkpoint", "export", "--ema-length", "0.1", dir, out).ended(exitOK)
	require.Contains(t, p.stdout.String(), "step 32, power-function EMA of length 0.1 from 8 checkpoints' moving averages")

	var at []int64
	for s := int64(4); s <= tinySteps; s += 4 {
		at = append(at, s)
	}
	fit, err := optim.FitPowerEMA(at, 0.9, 0.1)
	require.NoError(t, err)
	got, err := rundir.OpenWeights(t.Context(), out, false)
	require.NoError(t, err)
	want := map[string][]float64{}
	for i, s := range at {
		src, err := rundir.Open(t.Context(), filepath.Join(dir, "checkpoints", "step-"+itoa(s)), checkpoint.EMA)
		require.NoError(t, err)
		for _, w := range src.State.EMA {
			if want[w.Name] == nil {
				want[w.Name] = make([]float64, len(w.Data))
			}
			for j, v := range w.Data {
				want[w.Name][j] += fit.Weights[i] * float64(v)
			}
		}
	}
	require.Len(t, got.Weights(), len(want))
	for _, w := range got.Weights() {
		for j, v := range w.Data {
			require.InDelta(t, want[w.Name][j], v, 1e-6, w.Name)
		}
	}
	draw(t, out, "--steps", "2")

	// What a run tracked gives its own lengths as they are, from few checkpoints, whatever
	// the workers and through a resume.
	tracking := func(name string, more ...string) string {
		dir := filepath.Join(work, name)
		run(t, training(dir, append([]string{"--set", "train.ema_profiles=[0.05,0.1]", "--set", "checkpoint.keep=10", "--set", "lr.base=0.01"}, more...)...)...).ended(exitOK)
		return dir
	}
	tracked := tracking("tracked", "--workers", "2")
	require.Equal(t, finish(t, tracked).ModelDigest, finish(t, tracking("one", "--workers", "1")).ModelDigest)
	half := tracking("half", "--workers", "1", "--set", "train.steps=16")
	run(t, training(half, "--workers", "2", "--set", "train.ema_profiles=[0.05,0.1]", "--set", "checkpoint.keep=10", "--set", "lr.base=0.01")...).ended(exitOK)
	require.Equal(t, finish(t, tracked).ModelDigest, finish(t, half).ModelDigest)
	refused(t, run(t, training(half, "--set", "train.steps=64", "--set", "lr.base=0.01")...), exitConfig, "train.ema_profiles")
	p = run(t, "checkpoint", "export", "--ema-length", "0.1", tracked, filepath.Join(work, "tracked-pipe")).ended(exitOK)
	require.Contains(t, p.stdout.String(), "from 4 checkpoints' 2 tracked averages")
	got, err = rundir.OpenWeights(t.Context(), filepath.Join(work, "tracked-pipe"), false)
	require.NoError(t, err)
	src, err := rundir.Open(t.Context(), filepath.Join(tracked, "checkpoints", "step-"+itoa(tinySteps)), checkpoint.Optimizer)
	require.NoError(t, err)
	stored := map[string][]float32{}
	for _, w := range src.State.Optimizer {
		stored[w.Name] = w.Data
	}
	for _, w := range got.Weights() {
		require.InDeltaSlice(t, stored["power_ema_0_1."+w.Name], w.Data, 1e-5, w.Name)
	}
	run(t, "checkpoint", "export", "--ema-length", "0.15", tracked, filepath.Join(work, "other-pipe")).ended(exitOK)

	export := func(args ...string) *process {
		return run(t, append([]string{"checkpoint", "export"}, append(args, filepath.Join(work, "no"))...)...)
	}
	refused(t, export("--ema-length", "0.5", dir), exitUsage, "0.28")
	refused(t, export("--ema-length", "0.1", "--raw", dir), exitUsage, "exclude each other")
	refused(t, export("--ema-length", "0.1", out), exitFailed, "not a run's directory")
	sparse := filepath.Join(work, "sparse")
	run(t, training(sparse, "--set", "train.ema_decay=0.5", "--set", "checkpoint.every=16")...).ended(exitOK)
	refused(t, export("--ema-length", "0.1", sparse), exitFailed, "too far apart", "checkpoint.keep_every of 2 or less")
	require.NoDirExists(t, filepath.Join(work, "no"))
}
