package setup

import (
	"context"
	"errors"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
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
		if err := sample(ctx, s, m, x, ids, seed, step, trace != nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sample draws the images ids in place. They stay on the model's device where it can
// take them from step to step; look says that step wants to see them in x.
func sample(ctx context.Context, s *diffusion.Sampler, m *unet.Model, x []float32, ids []uint64, seed uint64,
	step func(done, total int), look bool,
) error {
	guide, err := guideOf(m, s.Config().Guidance, ids)
	if err != nil {
		return err
	}
	c, ok, err := m.NewChain(ids, s.Keeps(), guide)
	if err != nil {
		return err
	}
	if !ok {
		return s.Sample(ctx, predictor(m, guide), x, ids, seed, step)
	}
	defer c.Close()
	var unseen error
	err = s.SampleChain(ctx, chain{c}, x, ids, seed, func(done, total int) {
		if look && unseen == nil {
			unseen = c.End(x)
		}
		step(done, total)
	})
	return errors.Join(err, unseen)
}

// chain is a network's chain as package diffusion calls it.
type chain struct{ *unet.Chain }

// Advance implements diffusion.Chain.
func (c chain) Advance(s diffusion.Step) error {
	return c.Chain.Advance(s.T, tensor.SamplerStep{
		XX: s.XX, XO: s.XO, KX0: s.KX0, KXT: s.KXT, KOut: s.KOut, Sigma: s.Sigma, KA: s.KA, KB: s.KB, BX: s.BX, B0: s.B0,
		Keeps: s.Keeps, Clip: s.Clip, Seed: s.Seed, Stream: uint32(s.Stream),
	})
}
