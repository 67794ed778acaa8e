package setup

import (
	"context"
	"runtime"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
)

// Generate draws images [lo, hi) of a seed, batch at a time, NHWC in about
// [-1, 1]. Image i is a function of (weights, sampler, seed, i) alone; of a conditional
// model, the sampler's guidance says of which class it is. progress,
// where given, is told the model calls done and in all.
func Generate(ctx context.Context, s *diffusion.Sampler, m *unet.Model, seed uint64, lo, hi, batch int, progress func(done, total int)) ([]float32, error) {
	return GenerateTraced(ctx, s, m, seed, lo, hi, batch, progress, nil)
}

// GenerateTraced is Generate that shows the way: trace, where not nil, sees a batch's
// images before the first step (done 0) and after each. It must not keep or change them.
func GenerateTraced(ctx context.Context, s *diffusion.Sampler, m *unet.Model, seed uint64, lo, hi, batch int,
	progress func(done, total int), trace func(images []float32, done, total int),
) ([]float32, error) {
	c := m.Config()
	each := c.SampleSize * c.SampleSize * c.InChannels
	out := make([]float32, (hi-lo)*each)
	ids := make([]uint64, 0, batch)
	batches := (hi - lo + batch - 1) / batch
	if _, host := m.Params().Values().(tensor.Host); !host {
		pool := parallel.New(runtime.GOMAXPROCS(0)) // while the device waits for the next images
		defer pool.Close()
		s = s.On(pool)
	}
	for b := range batches {
		from, to := lo+b*batch, min(lo+(b+1)*batch, hi)
		ids = ids[:0]
		for i := from; i < to; i++ {
			ids = append(ids, uint64(i))
		}
		x := out[(from-lo)*each : (to-lo)*each]
		diffusion.InitialNoise(x, ids, seed)
		if trace != nil {
			trace(x, 0, len(s.Timesteps()))
		}
		step := func(done, total int) {
			if progress != nil {
				progress(b*total+done, batches*total)
			}
			if trace != nil {
				trace(x, done, total)
			}
		}
		p, err := predictor(m, s.Config().Guidance, ids)
		if err != nil {
			return nil, err
		}
		if err := s.Sample(ctx, p, x, ids, seed, step); err != nil {
			return nil, err
		}
	}
	return out, nil
}
