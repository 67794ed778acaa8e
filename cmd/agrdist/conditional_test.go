package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A conditional model trains to the same bits on any number of workers, and draws the
// classes it is asked for; settings that do not fit it are refused by their key.
func TestConditionalRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	more := []string{
		"--set", "model.num_class_embeds=11", "--set", "data.label_dropout=0.2", "--set", "train.loss_weighting=min_snr",
		"--set", "sample.guidance_scale=2", "--set", "sample.sampler=dpmpp_2m", "--set", "train.steps=8",
	}
	digest := ""
	for _, workers := range []string{"1", "2"} {
		dir := filepath.Join(root, workers)
		run(t, training(dir, append([]string{"--workers", workers}, more...)...)...).ended(exitOK)
		if digest == "" {
			digest = finish(t, dir).ModelDigest
		}
		require.Equal(t, digest, finish(t, dir).ModelDigest)
	}
	dir := filepath.Join(root, "1")
	draw := func(name string, more ...string) []byte {
		out := filepath.Join(root, name+".png")
		run(t, append([]string{"sample", "--from", dir, "-n", "12", "--out", out}, more...)...).ended(exitOK)
		text, err := os.ReadFile(out)
		require.NoError(t, err)
		return text
	}
	three := draw("three", "--class", "3")
	require.NotEqual(t, three, draw("four", "--class", "4"))
	require.NotEqual(t, three, draw("plain", "--class", "3", "--guidance", "1"))
	require.Equal(t, draw("none", "--class", "3", "--guidance", "0"), draw("none4", "--class", "4", "--guidance", "0"))
	p := run(t, "sample", "--from", dir, "--out", filepath.Join(root, "x.png"), "--class", "10").ended(exitFailed)
	require.Contains(t, p.stderr.String(), "class 10: the model has classes 0 to 9")

	// diffusers' layout carries the classes.
	export := filepath.Join(root, "pipeline")
	run(t, "checkpoint", "export", dir, export).ended(exitOK)
	require.Equal(t, draw("here", "--class", "3", "--guidance", "2", "--sampler", "ddim", "--seed", "5"),
		func() []byte {
			out := filepath.Join(root, "there.png")
			run(t, "sample", "--from", export, "-n", "12", "--out", out, "--class", "3", "--guidance", "2", "--steps", "2", "--seed", "5").ended(exitOK)
			text, err := os.ReadFile(out)
			require.NoError(t, err)
			return text
		}())

	for name, c := range map[string]struct {
		set  []string
		want string
	}{
		"guidance without classes": {[]string{"sample.guidance_scale=2"}, "sample.guidance_scale is 2; other scales than 1 need model.num_class_embeds and data.label_dropout"},
		"dropout without classes":  {[]string{"data.label_dropout=0.1"}, "data.label_dropout is 0.1 and model.num_class_embeds 0"},
		"too few classes":          {[]string{"model.num_class_embeds=9"}, "digits has labels up to 9; set model.num_class_embeds to its 10 classes"},
		"no room for none":         {[]string{"model.num_class_embeds=10", "data.label_dropout=0.1"}, "and one more for dropped labels"},
		"weighting":                {[]string{"train.loss_weighting=snr"}, `train.loss_weighting is "snr"; choose one of none, min_snr, p2`},
	} {
		var args []string
		for _, s := range c.set {
			args = append(args, "--set", s)
		}
		refused(t, run(t, training(filepath.Join(root, "refused"), args...)...), exitConfig, c.want)
		require.NoDirExists(t, filepath.Join(root, "refused"), name)
	}
}
