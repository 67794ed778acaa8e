package setup

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// The recipes of the AGR paper's CIFAR-10 table (arXiv 2407.16944), field by field: what
// its text and its script say, and for all else the defaults.
func TestPaperRecipes(t *testing.T) {
	type row struct {
		agr       bool
		optimizer optim.Config // with every value of the reference implementations
	}
	rows := map[string]row{
		"acprop":   {optimizer: optim.Config{Name: "acprop", Beta1: 0.9, Beta2: 0.999, Eps: 1e-16, Rectify: true}},
		"rmsprop":  {optimizer: optim.Config{Name: "rmsprop", Alpha: 0.99, Eps: 1e-8}},
		"adam":     {optimizer: optim.Config{Name: "adam", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}},
		"adamw":    {optimizer: optim.Config{Name: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}},
		"adan":     {optimizer: optim.Config{Name: "adan", Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 1e-8}},
		"adan-agr": {agr: true, optimizer: optim.Config{Name: "adan", Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 1e-8}},
	}
	files, err := filepath.Glob("../configs/cifar10-*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(rows), "a recipe for each row of the table, and no other")
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			got, err := Load(config.Source{File: "../configs/cifar10-" + name + ".yaml", Environ: []string{}})
			require.NoError(t, err)

			want := config.Default()
			want.Seed, want.Out = 42, "runs/cifar10-"+name
			want.Model.SampleSize, want.Model.InChannels = 32, 3
			want.Model.BlockOutChannels = []int{128, 256, 256, 256} // ch 128, mult [1, 2, 2, 2]
			want.Model.LayersPerBlock, want.Model.AttentionLevels = 2, []int{1}
			want.Model.NormNumGroups, want.Model.NormEps, want.Model.Dropout = 32, 1e-5, 0.1
			want.Diffusion = config.Diffusion{Timesteps: 1000, Schedule: diffusion.Linear, Prediction: string(diffusion.Epsilon)}
			want.Data.Name, want.Data.Dir, want.Data.Flip = "cifar10", "datasets/cifar10", true
			const perEpoch = 50_000 / 128 // the last, short batch is dropped
			want.Train.Steps, want.Train.GlobalBatch, want.Train.Chunk = 2000*perEpoch, 128, 8
			want.Train.ClipGradNorm, want.Train.EMADecay, want.Train.DigestEvery = 1, 0.9999, 1000
			want.Optimizer = config.Optimizer{Name: r.optimizer.Name, AGR: r.agr, AGRTensors: "all", AGROrder: "after_clip", AGRScope: "tensor"}
			want.LR = config.LR{Base: 2e-4, WarmupSteps: 200, Schedule: "constant"}
			want.AllReduce.BucketMB = 8
			want.Checkpoint.Every, want.Checkpoint.Keep = 10*perEpoch, 5
			for _, epoch := range []int64{10, 400, 800, 1200, 1600, 2000} { // the table's columns
				want.Checkpoint.KeepAt = append(want.Checkpoint.KeepAt, epoch*perEpoch)
			}
			want.Sample.Every, want.Sample.Steps = 100*perEpoch, 100 // DDIM, eta 0, raw weights, no clamp
			want.Sample.Spacing, want.Sample.Clip, want.Sample.Raw = diffusion.SpacingPaper, diffusion.ClipNone, true
			want.Log.Every = 10
			want.Cluster.Workers = got.Cluster.Workers // one for each GPU of the machine, where it has any
			require.Equal(t, string(want.YAML(false)), string(got.YAML(false)))

			o, err := OptimizerConfig(got)
			require.NoError(t, err)
			r.optimizer.LR = 2e-4
			require.Equal(t, r.optimizer, o, "the optimizer's own defaults, but lr")
			rate := LearningRate(got)
			require.Zero(t, rate.At(0), "the first update has rate 0")
			require.InDelta(t, 1e-4, rate.At(100), 1e-18)
			require.Equal(t, 2e-4, rate.At(200))
			require.Equal(t, 2e-4, rate.At(779_999))
		})
	}
}

func TestPaperModel(t *testing.T) {
	c, err := Load(config.Source{File: "../configs/cifar10-adan-agr.yaml", Environ: []string{}})
	require.NoError(t, err)
	be := cpu.New(cpu.Config{Threads: 1})
	defer be.Close()
	m, err := unet.New(be, UNet(c.Model))
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, 35_746_307, m.Params().Count())
	require.Len(t, m.Params().List(), 328)
}
