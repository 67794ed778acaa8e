package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
)

// ErrNotFinite is wrapped by Sample when the model returns NaN or infinity.
var ErrNotFinite = errors.New("diffusion: the model's output is not finite")

// Predictor is a network: dst = its output for the images x at timesteps t, one
// an image; len(dst) == len(x) == len(t) * pixels.
type Predictor interface {
	Predict(dst, x []float32, t []int64) error
}

// step is one call of the network as linear forms of x_t and its output:
//
//	x0      = xx x_t + xo out, then clipped where the configuration says so
//	x_{t-1} = kx0 x0 + kxt x_t + kout out + sigma z + ka a + kb b
//
// a and b are kept from an earlier step: where a step keeps, a becomes x_t and b
// becomes bx x_t + b0 x0, after they were read.
type step struct {
	t              int
	xx, xo         float64
	kx0, kxt, kout float64
	sigma          float64
	ka, kb         float64
	keeps          bool
	bx, b0         float64
}

// Sampler draws images from a model. It holds coefficients only, is never
// changed after construction and is safe for concurrent use.
type Sampler struct {
	config SamplerConfig
	steps  []step
}

// NewSampler computes the coefficients of every step.
func NewSampler(s *Schedule, c SamplerConfig) (*Sampler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	list, err := c.timesteps(s.Timesteps())
	if err != nil {
		return nil, err
	}
	switch c.Method {
	case DPMSolver:
		return &Sampler{config: c, steps: c.dpmSolverSteps(s, list)}, nil
	case Heun:
		return &Sampler{config: c, steps: c.heunSteps(s, list)}, nil
	}
	sampler := &Sampler{config: c, steps: make([]step, len(list))}
	for i, t := range list {
		abar, abarPrev := s.AlphasCumprod[t], 1.0
		last := i == len(list)-1
		switch {
		case !last:
			abarPrev = s.AlphasCumprod[list[i+1]]
		case !c.endsAtOne():
			abarPrev = s.AlphasCumprod[0]
		}
		if c.Method == DDPM {
			sampler.steps[i] = c.ddpmStep(abar, abarPrev, last)
		} else {
			sampler.steps[i] = c.ddimStep(abar, abarPrev)
		}
		sampler.steps[i].t = t
	}
	return sampler, nil
}

// ddpmStep is DDPM, equations 7 and 11, for a step between any two timesteps:
// alpha = abar/abarPrev is then the product of the alphas in between. The last
// step returns the mean, without noise.
func (c SamplerConfig) ddpmStep(abar, abarPrev float64, last bool) step {
	alpha := abar / abarPrev
	beta := 1 - alpha
	var k step
	k.xx, k.xo, _, _ = c.Prediction.solve(abar)
	k.kx0 = math.Sqrt(abarPrev) * beta / (1 - abar)
	k.kxt = math.Sqrt(alpha) * (1 - abarPrev) / (1 - abar)
	switch {
	case last:
	case c.Variance == FixedLarge:
		k.sigma = math.Sqrt(beta)
	default:
		k.sigma = math.Sqrt((1 - abarPrev) / (1 - abar) * beta)
	}
	return k
}

// ddimStep is DDIM, equations 12 and 16. The direction that points to x_t takes
// the predicted noise as it is, not one derived again from the clipped x0
// (diffusers' use_clipped_model_output false).
func (c SamplerConfig) ddimStep(abar, abarPrev float64) step {
	variance := (1 - abarPrev) / (1 - abar) * (1 - abar/abarPrev)
	sigma := c.Eta * math.Sqrt(max(variance, 0))
	direction := math.Sqrt(max(1-abarPrev-float64(sigma*sigma), 0))
	var k step
	var ex, eo float64
	k.xx, k.xo, ex, eo = c.Prediction.solve(abar)
	k.kx0 = math.Sqrt(abarPrev)
	k.kxt, k.kout = direction*ex, direction*eo
	k.sigma = sigma
	return k
}

// Config returns the configuration that the sampler was made from.
func (s *Sampler) Config() SamplerConfig { return s.config }

// Timesteps returns the timesteps in the order of the visit, descending; as
// many as Sample calls the model.
func (s *Sampler) Timesteps() []int {
	list := make([]int, len(s.steps))
	for i, k := range s.steps {
		list[i] = k.t
	}
	return list
}

// InitialNoise fills x with x_T: standard normal, each image a function of
// (seed, its id). x is [len(ids), pixels].
func InitialNoise(x []float32, ids []uint64, seed uint64) {
	pixels := pixelsOf(x, ids)
	source := rng.New(seed, rng.StreamSample)
	for i, id := range ids {
		source.Normal(x[i*pixels:(i+1)*pixels], id)
	}
}

// Sample runs the reverse process in place: x holds x_T (InitialNoise) on entry
// and the images on return, [len(ids), pixels]. The noise of image ids[i] at
// step k is a function of (seed, k, ids[i]).
//
// It allocates before the first step only. onStep, when not nil, is called
// after every step. It stops between steps when ctx is done, with an error that
// wraps ctx's cause; an error of the model is wrapped with the timestep; NaN or
// infinity from the model is ErrNotFinite. x is then not an image.
func (s *Sampler) Sample(ctx context.Context, p Predictor, x []float32, ids []uint64, seed uint64, onStep func(done, total int)) error {
	out := make([]float32, len(x))
	images := s.images(x, out, ids)
	t := make([]int64, len(ids))
	for i, k := range s.steps {
		if ctx.Err() != nil {
			return fmt.Errorf("sampling stopped after %d of %d steps: %w", i, len(s.steps), context.Cause(ctx))
		}
		for j := range t {
			t[j] = int64(k.t)
		}
		if err := p.Predict(out, x, t); err != nil {
			return fmt.Errorf("sampling at timestep %d (step %d of %d): %w", k.t, i+1, len(s.steps), err)
		}
		if id, ok := images.advance(rng.New(seed, rng.StreamSampler.With(i)), k); !ok {
			return fmt.Errorf("%w: timestep %d (step %d of %d), image %d", ErrNotFinite, k.t, i+1, len(s.steps), id)
		}
		if onStep != nil {
			onStep(i+1, len(s.steps))
		}
	}
	s.clipAfter(x)
	return nil
}

// images are those of one call of Sample, and what advances them.
type images struct {
	s             *Sampler
	x, out, noise []float32 // [len(ids), pixels]
	a, b          []float32 // kept between steps; nil for samplers that keep nothing
	ids           []uint64
	pixels        int
}

func (s *Sampler) images(x, out []float32, ids []uint64) *images {
	b := &images{
		s: s, x: x, out: out, noise: make([]float32, len(x)), ids: ids, pixels: pixelsOf(x, ids),
	}
	if s.Keeps() {
		b.a, b.b = make([]float32, len(x)), make([]float32, len(x))
	}
	return b
}

// advance takes all images from one step to the next. Where the model's output is not
// finite it names the first such image.
func (b *images) advance(source rng.Source, k step) (id uint64, ok bool) {
	for j, id := range b.ids {
		lo, hi := j*b.pixels, (j+1)*b.pixels
		if k.sigma > 0 {
			source.Normal(b.noise[lo:hi], id)
		}
		if b.a == nil {
			ok = b.s.advance(b.x[lo:hi], b.out[lo:hi], b.noise[lo:hi], k)
		} else {
			ok = b.s.advanceKept(b.x[lo:hi], b.out[lo:hi], b.a[lo:hi], b.b[lo:hi], k)
		}
		if !ok {
			return id, false
		}
	}
	return 0, true
}

// advance takes one image from x_t to x_{t-1} in place and says whether all of
// the model's output was finite. The conversions around the products forbid
// fused multiply-adds (see combine). z may hold an earlier step's values when
// sigma is 0.
func (s *Sampler) advance(x, out, z []float32, k step) bool {
	clip := s.config.Clip == ClipBefore
	finite := true
	for i := range x {
		xt, o := float64(x[i]), float64(out[i])
		finite = finite && o-o == 0
		x0 := float64(k.xx*xt) + float64(k.xo*o)
		if clip {
			x0 = min(max(x0, -1), 1)
		}
		next := float64(k.kx0*x0) + float64(k.kxt*xt)
		next += float64(k.kout*o) + float64(k.sigma*float64(z[i]))
		x[i] = float32(next)
	}
	return finite
}

// pixelsOf returns the elements of one image.
func pixelsOf(x []float32, ids []uint64) int {
	if len(ids) == 0 || len(x)%len(ids) != 0 {
		panic(fmt.Sprintf("diffusion: %d elements do not divide into %d images", len(x), len(ids)))
	}
	return len(x) / len(ids)
}
