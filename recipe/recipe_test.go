package recipe_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// pipeline is a diffusers directory with the default model, its documents changed.
func pipeline(t *testing.T, network, scheduler func(string) string) *rundir.Source {
	t.Helper()
	c := config.Default()
	n, s, err := setup.Documents(&c, setup.UNet(c.Model))
	require.NoError(t, err)
	return &rundir.Source{Kind: rundir.Pipeline, Path: "PIPE", State: &checkpoint.Snapshot{
		UNetConfig: []byte(network(string(n))), SchedulerConfig: []byte(scheduler(string(s))),
	}}
}

func as(s string) string { return s }

func replaced(t *testing.T, from, to string) func(string) string {
	t.Helper()
	return func(s string) string {
		require.Contains(t, s, from)
		return strings.Replace(s, from, to, 1)
	}
}

func TestRecipeOfARunAndItsPipeline(t *testing.T) {
	c := config.Default()
	c.Seed, c.Model.Dropout = 9, 0.25
	run, err := recipe.Of(&rundir.Source{Kind: rundir.Run, State: &checkpoint.Snapshot{Config: c.YAML(false)}})
	require.NoError(t, err)
	require.Equal(t, c, *run.Config)

	made, err := recipe.Of(pipeline(t, as, as))
	require.NoError(t, err)
	require.Equal(t, config.Default().Model, made.Config.Model)
	require.Equal(t, run.Schedule, made.Schedule)
	require.NoError(t, recipe.Trainable(pipeline(t, as, as), made))
}

// What diffusers has and a configuration cannot say is refused by the field's name.
func TestUnsupportedPipelines(t *testing.T) {
	for want, src := range map[string]*rundir.Source{
		"PIPE: unet/config.json: out_channels is 2": pipeline(t, replaced(t, `"out_channels": 1`, `"out_channels": 2`), as),
		"thresholding true is not supported":        pipeline(t, as, replaced(t, `"thresholding": false`, `"thresholding": true`)),
	} {
		_, err := recipe.Of(src)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
	bare, err := recipe.Of(pipeline(t, func(s string) string {
		return strings.NewReplacer(`"add_attention": true`, `"add_attention": false`, `"in_channels": 1`, `"in_channels": 6`, `"out_channels": 1`, `"out_channels": 6`).Replace(s)
	}, as))
	require.NoError(t, err)
	require.False(t, bare.Config.Model.AddAttention)
	require.Equal(t, 6, bare.Config.Model.InChannels)
	// It can be sampled from, and not trained.
	src := pipeline(t, as, replaced(t, `"beta_schedule": "linear"`, `"beta_schedule": "scaled_linear"`))
	made, err := recipe.Of(src)
	require.NoError(t, err)
	require.ErrorContains(t, recipe.Trainable(src, made), "PIPE: scheduler_config.json: beta_schedule is scaled_linear from 0.0001 to 0.02 in 1000 steps;")
}

func TestSameBits(t *testing.T) {
	c := config.Default()
	snap := &checkpoint.Snapshot{Meta: recipe.Meta(&c, "cpu/go")}
	require.Equal(t, map[string]string{"rounding": "cpu/go", "precision": "f32", "device": "cpu"}, snap.Meta)
	require.NoError(t, recipe.SameBits(snap, "P", "cpu/go"))
	require.NoError(t, recipe.SameBits(&checkpoint.Snapshot{}, "P", "cpu/go"), "imported, or of an older program")
	var other *recipe.OtherBitsError
	err := recipe.SameBits(snap, "P", "cpu/avx2")
	require.ErrorAs(t, err, &other)
	require.ErrorContains(t, err, "P was computed on cpu/go; here it would be continued on cpu/avx2")
	require.ErrorContains(t, err, "Either set AGRDIST_CPU=go, or accept that with --allow-other-bits")
	snap.Meta["rounding"] = "cpu/portable bf16"
	require.ErrorContains(t, recipe.SameBits(snap, "P", "cpu/go"), "Either set train.cpu=portable, or")
	snap.Meta["rounding"] = "cpu/unknown"
	require.ErrorContains(t, recipe.SameBits(snap, "P", "cpu/go"), "Either continue it where it was computed, or accept that with --allow-other-bits "+
		"(a run that is started with train.cpu=portable can be continued on any processor)")
	snap.Meta["rounding"] = "cuda/sm_90 sum 1"
	require.ErrorContains(t, recipe.SameBits(snap, "P", "cpu/go"), "Either continue it where it was computed, or")
}

func TestFits(t *testing.T) {
	c := config.Default()
	snap := &checkpoint.Snapshot{Config: c.YAML(false)}
	require.NoError(t, recipe.Fits(&c, snap, "P"))
	c.Seed++
	var differ *recipe.ContradictionError
	require.ErrorAs(t, recipe.Fits(&c, snap, "P"), &differ)
	require.Equal(t, []string{"seed is 43, the checkpoint has 42"}, differ.Keys)
}
