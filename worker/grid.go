package worker

import (
	"context"
	"fmt"
	"os"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/grid"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
)

// sampleGrid is the task that generates the sample grids of a run. Image i of every grid
// starts from the same noise, so that grids of different steps show the same images
// getting better.
type sampleGrid struct {
	cfg     *config.Config
	model   *unet.Model
	sampler *diffusion.Sampler
	dir     rundir.Dir
	written func(step int64, path string)
}

func newGridTask(c *config.Config, m *unet.Model, runDir string, written func(step int64, path string)) (trainer.Task, error) {
	schedule, _, err := setup.Process(c)
	if err != nil {
		return trainer.Task{}, err
	}
	s, err := diffusion.NewSampler(schedule, setup.SamplerConfig(c))
	if err != nil {
		return trainer.Task{}, err
	}
	g := &sampleGrid{cfg: c, model: m, sampler: s, dir: rundir.Dir(runDir), written: written}
	return trainer.Task{
		Name: "sample grid", Phase: cluster.PhaseSample, Every: c.Sample.Every,
		Count: c.Sample.Count, Each: c.Model.SampleSize * c.Model.SampleSize * c.Model.InChannels,
		Share: g.share, Merge: g.write,
	}, nil
}

// share puts the averaged weights in the model's place while it generates.
func (g *sampleGrid) share(ctx context.Context, s *trainer.State, lo, hi int) (images []float32, err error) {
	generate := func() error {
		var err error
		images, err = setup.Generate(ctx, g.sampler, g.model, g.cfg.Seed, lo, hi, g.cfg.Train.Chunk, nil)
		return err
	}
	if g.cfg.Sample.Raw {
		err = generate()
	} else {
		err = s.WithEMA(generate)
	}
	return images, err
}

// write stores samples/step-N.png.
func (g *sampleGrid) write(step int64, images []float32) error {
	if err := os.MkdirAll(g.dir.Samples(), 0o755); err != nil {
		return fmt.Errorf("worker: sample grid: %w", err)
	}
	path := g.dir.Sample(step)
	m := g.cfg.Model
	if err := grid.WriteFile(path, images, g.cfg.Sample.Count, m.SampleSize, m.SampleSize, m.InChannels, grid.Options{}); err != nil {
		return err
	}
	g.written(step, path)
	return nil
}
