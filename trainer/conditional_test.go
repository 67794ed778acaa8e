package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// conditional makes a run of 10 classes and none, with dropped labels.
func conditional(t *testing.T) option {
	t.Helper()
	return func(cfg *Config, p *Parts) {
		c := tiny()
		c.NumClassEmbeds = 11
		model, err := unet.New(p.Backend, c)
		require.NoError(t, err)
		cfg.NumClasses, cfg.LabelDropout = 11, 0.3
		p.Model = model
		p.Pass = passFor(t, model)
	}
}

func weighted(kind string, p diffusion.Prediction) option {
	return func(_ *Config, parts *Parts) {
		parts.Process.Weighting, parts.Process.Prediction = diffusion.Weighting{Kind: kind, Gamma: 5}, p
	}
}

// Labels and weights depend on the sample alone: any world size gives the same bits,
// and they do change what is learned.
func TestConditionalAndWeightedOnAnyWorld(t *testing.T) {
	cfg := smallConfig(3)
	plain := runs(t, 1, cfg)
	seen := map[string]bool{plain: true}
	for name, o := range map[string][]option{
		"conditional":      {conditional(t)},
		"min-SNR":          {weighted(diffusion.WeightMinSNR, diffusion.Epsilon)},
		"min-SNR in v":     {weighted(diffusion.WeightMinSNR, diffusion.V)},
		"conditional + P2": {conditional(t), weighted(diffusion.WeightP2, diffusion.Epsilon)},
	} {
		one := runs(t, 1, cfg, o...)
		require.False(t, seen[one], name)
		seen[one] = true
		require.Equal(t, one, runs(t, 2, cfg, o...), name)
		require.Equal(t, one, runs(t, 3, cfg, o...), name)
	}
	require.Equal(t, plain, runs(t, 1, cfg, weighted(diffusion.WeightNone, diffusion.Epsilon)))
}

// Labels are those of the images, dropped with the given probability, by draw: the
// same sample in another chunk has the same label.
func TestLabels(t *testing.T) {
	set, err := data.Open(data.DefaultConfig())
	require.NoError(t, err)
	loader := data.NewLoader(set, 42, false)
	cfg := Config{Seed: 42, GlobalBatch: 400, Chunk: 400, NumClasses: 11, LabelDropout: 0.25}
	schedule, err := diffusion.NewSchedule("linear", 100)
	require.NoError(t, err)
	be := cpu.New(cpu.Config{Threads: 1})
	t.Cleanup(func() { require.NoError(t, be.Close()) })
	chunk := func(n int) *chunker {
		c := cfg
		c.Chunk = n
		k, err := newChunker(c, Process{Schedule: schedule, Prediction: diffusion.Epsilon}, be, nil, loader, 8, 8, 1)
		require.NoError(t, err)
		return k
	}
	k := chunk(400)
	for i := range k.draws {
		k.draws[i] = int64(3*400 + i)
	}
	require.NoError(t, k.classes())
	dropped := 0
	for i, label := range k.labels {
		if label == 10 {
			dropped++
			continue
		}
		_, index, _ := loader.Sample(k.draws[i])
		require.Equal(t, int64(set.Label(index)), label)
	}
	require.InDelta(t, 100, dropped, 40)
	small := chunk(4)
	copy(small.draws, k.draws[196:200])
	require.NoError(t, small.classes())
	require.Equal(t, k.labels[196:200], small.labels)
	rows := make([]float32, 4*11)
	require.NoError(t, be.Download(rows, small.batch.Classes.Buf))
	want := make([]float32, 4*11)
	require.NoError(t, unet.OneHot(want, small.labels, 11))
	require.Equal(t, want, rows)

	// A loader without labels is refused when the run is put together.
	_, err = newChunker(cfg, Process{Schedule: schedule, Prediction: diffusion.Epsilon}, be, nil, poison{}, 8, 8, 1)
	require.ErrorContains(t, err, "a loader that knows labels")
}
