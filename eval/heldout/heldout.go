package heldout

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/rng"
)

// Images are the held-out images; a data.Dataset is one.
type Images interface {
	Name() string
	Len() int
	// Size is the shape of every image.
	Size() (height, width, channels int)
	// Read copies an image, [H, W, C] in [-1, 1].
	Read(dst []float32, index int) error
}

// stream keeps these draws apart from those of training with the same seed.
const stream = 1

// Config says what is drawn. Two losses compare only under one Config.
type Config struct {
	Strata int    // timesteps of each image, one in each of so many parts of [0, T)
	Seed   uint64 // of timesteps and noise; not the run's: all runs are tried alike
	Batch  int    // images x timesteps computed at once; changes no draw
}

// DefaultConfig tries each image at 8 timesteps.
func DefaultConfig() Config { return Config{Strata: 8, Batch: 64} }

// Process is the forward process and what the network predicts.
type Process struct {
	Schedule   *diffusion.Schedule
	Prediction diffusion.Prediction
	// Label is the class of an image, which a conditional model is told: the model is
	// a ClassPredictor then. nil: it is not conditional.
	Label func(image int) int
}

// ClassPredictor is a model that is told the class of each image; *unet.Model is one.
type ClassPredictor interface {
	// PredictClasses is diffusion.Predictor's Predict for images of the classes
	// labels [n].
	PredictClasses(dst, x []float32, t, labels []int64) error
}

// Losses returns, for each of the images [lo, hi), the mean over its timesteps and its
// values of the squared error of the model's prediction.
func Losses(ctx context.Context, m diffusion.Predictor, p Process, images Images, c Config, lo, hi int) ([]float64, error) {
	T := p.Schedule.Timesteps()
	if c.Strata < 1 || c.Strata > T || c.Batch < 1 {
		return nil, fmt.Errorf("heldout: %d strata of %d timesteps, %d at once; strata must be 1 to the timesteps, and at least 1 is computed", c.Strata, T, c.Batch)
	}
	h, w, ch := images.Size()
	b := &batch{
		images: images, process: p, config: c, pixels: h * w * ch,
		times: rng.New(c.Seed, rng.StreamTimestep.With(stream)), noise: rng.New(c.Seed, rng.StreamNoise.With(stream)),
	}
	b.allocate()
	out := make([]float64, hi-lo)
	total := (hi - lo) * c.Strata
	for from := 0; from < total; from += c.Batch {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("heldout: stopped: %w", context.Cause(ctx))
		}
		n := min(c.Batch, total-from)
		if err := b.fill(lo*c.Strata+from, n); err != nil {
			return nil, err
		}
		if err := b.predict(m, n); err != nil {
			return nil, fmt.Errorf("heldout: %w", err)
		}
		for i := range n {
			out[(from+i)/c.Strata] += b.loss(i) / float64(c.Strata)
		}
	}
	return out, nil
}

// batch is what is computed at once: pairs of an image and a timestep.
type batch struct {
	images  Images
	process Process
	config  Config
	pixels  int
	times   rng.Source
	noise   rng.Source

	t, labels                      []int64
	x0, eps, xt, target, predicted []float32
}

func (b *batch) allocate() {
	n := b.config.Batch * b.pixels
	b.t, b.labels = make([]int64, b.config.Batch), make([]int64, b.config.Batch)
	b.eps, b.x0 = make([]float32, b.pixels), make([]float32, b.pixels)
	b.xt, b.target, b.predicted = make([]float32, n), make([]float32, n), make([]float32, n)
}

// fill prepares the pairs [first, first+n): pair p is image p/Strata in part p mod
// Strata of the timesteps.
func (b *batch) fill(first, n int) error {
	T := b.process.Schedule.Timesteps()
	for i := range n {
		pair := first + i
		image, part := pair/b.config.Strata, pair%b.config.Strata
		if err := b.images.Read(b.x0, image); err != nil {
			return fmt.Errorf("heldout: image %d of %s: %w", image, b.images.Name(), err)
		}
		from, to := part*T/b.config.Strata, (part+1)*T/b.config.Strata
		t := from + b.times.IntN(uint64(pair), to-from)
		b.noise.Normal(b.eps, uint64(pair))
		b.t[i] = int64(t)
		if b.process.Label != nil {
			b.labels[i] = int64(b.process.Label(image))
		}
		b.process.Schedule.QSample(b.xt[i*b.pixels:][:b.pixels], b.x0, b.eps, t)
		b.process.Prediction.Target(b.target[i*b.pixels:][:b.pixels], b.x0, b.eps, b.process.Schedule, t)
	}
	return nil
}

// predict calls the model for the first n pairs.
func (b *batch) predict(m diffusion.Predictor, n int) error {
	dst, x, t := b.predicted[:n*b.pixels], b.xt[:n*b.pixels], b.t[:n]
	if b.process.Label == nil {
		return m.Predict(dst, x, t)
	}
	c, ok := m.(ClassPredictor)
	if !ok {
		return fmt.Errorf("%T takes no classes, and the images have labels that it should be told", m)
	}
	return c.PredictClasses(dst, x, t, b.labels[:n])
}

// loss is the mean squared error of pair i.
func (b *batch) loss(i int) float64 {
	var sum float64
	for j := i * b.pixels; j < (i+1)*b.pixels; j++ {
		d := float64(b.predicted[j]) - float64(b.target[j])
		sum += float64(d * d)
	}
	return sum / float64(b.pixels)
}

// ErrNotFinite is returned for a model that predicts NaN or infinity.
var ErrNotFinite = errors.New("heldout: the loss is not finite")

// Summary is the mean of per-image losses and its standard error, s/sqrt(n) with s the
// sample standard deviation over images. Two models' losses on the same images are
// paired: the error of their difference is smaller than these suggest. The error of
// fewer than two images is 0.
func Summary(losses []float64) (mean, stdErr float64, err error) {
	n := float64(len(losses))
	for _, l := range losses {
		mean += l / n
	}
	if len(losses) == 0 || mean-mean != 0 {
		return 0, 0, ErrNotFinite
	}
	if len(losses) < 2 {
		return mean, 0, nil
	}
	var squares float64
	for _, l := range losses {
		squares += (l - mean) * (l - mean)
	}
	return mean, math.Sqrt(squares / (n - 1) / n), nil
}
