package diffusion

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/rng"
)

// Chain is a network on a device that takes images from step to step itself: they stay
// there from the first step to the last.
type Chain interface {
	// Begin brings x_T [images, pixels] to the device.
	Begin(x []float32) error
	// Advance calls the network and takes the images one step further. It need not wait
	// for the device.
	Advance(s Step) error
	// Finite waits for the device. It returns the place of the first image for which the
	// network's output was not finite at some step; -1: there is none.
	Finite() (image int, err error)
	// End brings the images to the host.
	End(x []float32) error
}

// Step is a step of a sampler for a Chain: one call of the network, and linear forms of
// the images x and its output out, in float64.
//
//	x0 = XX x + XO out, clipped to [-1, 1] where Clip is set
//	x' = KX0 x0 + KXT x + KOut out + Sigma z, or, of a sampler that keeps a and b,
//	x' = KX0 x0 + KXT x + KA a + KB b, and with Keeps then a' = x, b' = BX x + B0 x0
//
// z is the noise of (Seed, Stream, id); a and b are 0 at first.
type Step struct {
	T                                             int
	XX, XO, KX0, KXT, KOut, Sigma, KA, KB, BX, B0 float64
	Keeps, Clip                                   bool
	Seed                                          uint64
	Stream                                        rng.Stream
}

// chainAhead is how many steps a device is given before the host waits for them: few
// enough to stop soon and to show the progress, enough to keep the device busy.
const chainAhead = 8

// Keeps says whether the sampler keeps two tensors of the images' size between steps.
func (s *Sampler) Keeps() bool { return s.config.Method == DPMSolver || s.config.Method == Heun }

// SampleChain is Sample for a network that keeps the images: nothing is copied between
// two steps. The bits are Sample's but for those in which the device's logarithm, sine and
// cosine differ. An output that is not finite is found some steps later.
func (s *Sampler) SampleChain(ctx context.Context, c Chain, x []float32, ids []uint64, seed uint64, onStep func(done, total int)) error {
	pixelsOf(x, ids)
	if err := c.Begin(x); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	total := len(s.steps)
	for i, k := range s.steps {
		if ctx.Err() != nil {
			return fmt.Errorf("sampling stopped after %d of %d steps: %w", i, total, context.Cause(ctx))
		}
		err := c.Advance(Step{
			T: k.t, XX: k.xx, XO: k.xo, KX0: k.kx0, KXT: k.kxt, KOut: k.kout, Sigma: k.sigma, KA: k.ka, KB: k.kb, BX: k.bx, B0: k.b0,
			Keeps: k.keeps, Clip: s.config.Clip == ClipBefore, Seed: seed, Stream: rng.StreamSampler.With(i),
		})
		if err != nil {
			return fmt.Errorf("sampling at timestep %d (step %d of %d): %w", k.t, i+1, total, err)
		}
		if (i+1)%chainAhead == 0 || i == total-1 {
			bad, err := c.Finite()
			if err != nil {
				return fmt.Errorf("sampling at timestep %d (step %d of %d): %w", k.t, i+1, total, err)
			}
			if bad >= 0 {
				first := i / chainAhead * chainAhead
				return fmt.Errorf("%w: timesteps %d to %d (steps %d to %d of %d), image %d", ErrNotFinite, s.steps[first].t, k.t, first+1, i+1, total, ids[bad])
			}
		}
		if onStep != nil {
			onStep(i+1, total)
		}
	}
	if err := c.End(x); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	s.clipAfter(x)
	return nil
}

// clipAfter clips finished images where the configuration says so.
func (s *Sampler) clipAfter(x []float32) {
	if s.config.Clip == ClipAfter {
		for i, v := range x {
			x[i] = min(max(v, -1), 1)
		}
	}
}
