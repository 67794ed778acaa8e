package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A model that scales and shifts by the time embedding goes all the way: the same bits on
// any number of workers, in another portable kernel set and through a stop, and again
// behind export and import.
func TestScaleShift(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	train := func(name string, env []string, more ...string) string {
		dir := filepath.Join(work, name)
		startEnv(t, env, training(dir, append([]string{
			"--set", "model.resnet_time_scale_shift=scale_shift", "--set", "train.cpu=portable", "--set", "train.steps=12",
		}, more...)...)...).ended(exitOK)
		return dir
	}
	one := train("one", nil, "--workers", "1")
	want := finish(t, one).ModelDigest
	require.Equal(t, want, finish(t, train("two", nil, "--workers", "2")).ModelDigest)
	train("resumed", []string{"AGRDIST_CPU=portable-go"}, "--workers", "1", "--set", "train.steps=5")
	require.Equal(t, want, finish(t, train("resumed", nil, "--workers", "2")).ModelDigest)
	require.NotEqual(t, want, finish(t, train("added", nil, "--set", "model.resnet_time_scale_shift=default")).ModelDigest)

	pipeline, back := filepath.Join(work, "pipeline"), filepath.Join(work, "back")
	run(t, "checkpoint", "export", one, pipeline).ended(exitOK)
	text, err := os.ReadFile(filepath.Join(pipeline, "unet", "config.json"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"resnet_time_scale_shift": "scale_shift"`)
	require.Contains(t, string(text), `"attn_norm_num_groups": 4`)
	run(t, "checkpoint", "import", pipeline, back).ended(exitOK)
	sample := func(from, out string) []byte {
		path := filepath.Join(work, out)
		run(t, "sample", "--from", from, "-n", "4", "--seed", "3", "--steps", "2", "--sampler", "ddim", "--out", path).ended(exitOK)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	require.Equal(t, sample(one, "a.npz"), sample(back, "b.npz"))

	p := run(t, training(filepath.Join(work, "no"), "--set", "model.resnet_time_scale_shift=ada_group")...)
	refused(t, p, exitConfig, `model.resnet_time_scale_shift is "ada_group"; choose one of default, scale_shift`)
	// A run continues with its own network.
	p = run(t, training(one, "--set", "train.cpu=portable", "--set", "train.steps=14")...)
	refused(t, p, exitConfig, "model.resnet_time_scale_shift")
}
