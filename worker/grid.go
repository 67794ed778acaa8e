package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/grid"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
)

// gridSampler draws the sample grids of a run. Image i of every grid starts from
// the same noise, so that grids of different steps show the same images getting
// better.
type gridSampler struct {
	cfg     *config.Config
	model   *unet.Model
	sampler *diffusion.Sampler
	dir     string
	batch   int
}

var _ trainer.Sampler = (*gridSampler)(nil)

func newGridSampler(c *config.Config, m *unet.Model, runDir string) (*gridSampler, error) {
	schedule, _, err := setup.Process(c)
	if err != nil {
		return nil, err
	}
	s, err := diffusion.NewSampler(schedule, setup.SamplerConfig(c))
	if err != nil {
		return nil, err
	}
	return &gridSampler{cfg: c, model: m, sampler: s, dir: filepath.Join(runDir, "samples"), batch: c.Train.Chunk}, nil
}

func (g *gridSampler) Count() int { return g.cfg.Sample.Count }

func (g *gridSampler) ImageLen() int {
	m := g.cfg.Model
	return m.SampleSize * m.SampleSize * m.InChannels
}

// Share puts the averaged weights in the model's place while it draws.
func (g *gridSampler) Share(ctx context.Context, s *trainer.State, lo, hi int) (images []float32, err error) {
	draw := func() error {
		var err error
		images, err = setup.Generate(ctx, g.sampler, g.model, g.cfg.Seed, lo, hi, g.batch, nil)
		return err
	}
	if g.cfg.Sample.Raw {
		err = draw()
	} else {
		err = s.WithEMA(draw)
	}
	return images, err
}

// Write stores samples/step-N.png.
func (g *gridSampler) Write(step int64, images []float32) (string, error) {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return "", fmt.Errorf("worker: sample grid: %w", err)
	}
	path := filepath.Join(g.dir, fmt.Sprintf("step-%d.png", step))
	m := g.cfg.Model
	return path, grid.WriteFile(path, images, g.cfg.Sample.Count, m.SampleSize, m.SampleSize, m.InChannels, grid.Options{})
}
