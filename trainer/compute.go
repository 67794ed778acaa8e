package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// chunker computes the loss and gradient of one chunk: a function of (config,
// seed, step, chunk index, weights) and of nothing else.
type chunker struct {
	cfg   Config
	proc  Process
	be    tensor.Backend
	model Model
	ahead *ahead

	draws, times []int64
	batch        unet.Batch // on the device, as the next two
	labeler      Labeler    // nil: the model is not conditional
	labels       []int64
	rows         []float32     // one-hot, of the labels
	halves       []float32     // half the roots of the samples' weights; nil: no weights
	clean, noise tensor.Tensor // noise is the batch's target where the model predicts that
	noising      mix           // to the noisy images
	targets      mix           // to what the model predicts, where that is not the noise
	loading      time.Duration // spent waiting for images since a step began
}

// mix holds the coefficients of a weighted sum of images and noise, by sample.
type mix struct {
	a, b   []float32
	da, db tensor.Tensor
}

func newMix(be tensor.Backend, n int) (m mix, err error) {
	m.a, m.b = make([]float32, n), make([]float32, n)
	if m.da, err = tensor.New(be, tensor.F32, tensor.Of(n)); err == nil {
		m.db, err = tensor.New(be, tensor.F32, tensor.Of(n))
	}
	return m, err
}

// set sets the coefficients of sample i.
func (m *mix) set(i int, a, b float64) { m.a[i], m.b[i] = float32(a), float32(b) }

// apply is dst = a clean + b noise.
func (m *mix) apply(be tensor.Backend, dst, clean, noise tensor.Tensor) {
	be.Upload(m.da.Buf, m.a)
	be.Upload(m.db.Buf, m.b)
	be.QSample(dst, clean, noise, m.da, m.db)
}

// newChunker allocates what a chunk of images of h x w x c needs.
func newChunker(cfg Config, proc Process, be tensor.Backend, m Model, l Loader, h, w, c int) (*chunker, error) {
	n := cfg.Chunk
	k := &chunker{
		cfg: cfg, proc: proc, be: be, model: m, ahead: newAhead(l, n, h*w*c),
		draws: make([]int64, n), times: make([]int64, n),
	}
	if cfg.NumClasses > 0 {
		var ok bool
		if k.labeler, ok = l.(Labeler); !ok {
			return nil, errors.New("trainer: a conditional model needs a loader that knows labels")
		}
		k.labels, k.rows = make([]int64, n), make([]float32, n*cfg.NumClasses)
	}
	if err := k.allocate(tensor.Of(n, h, w, c)); err != nil {
		return nil, fmt.Errorf("trainer: room for a chunk: %w", err)
	}
	k.batch.Seed, k.batch.GradScale = cfg.Seed, float32(1/(float64(cfg.GlobalBatch)*float64(h*w*c)))
	return k, nil
}

func (k *chunker) allocate(images tensor.Shape) (err error) {
	if k.batch, err = unet.NewBatch(k.be, images); err != nil {
		return err
	}
	if k.clean, err = tensor.New(k.be, tensor.F32, images); err != nil {
		return err
	}
	if k.noising, err = newMix(k.be, k.cfg.Chunk); err != nil {
		return err
	}
	if k.cfg.NumClasses > 0 {
		if k.batch.Classes, err = tensor.New(k.be, tensor.F32, tensor.Of(k.cfg.Chunk, k.cfg.NumClasses)); err != nil {
			return err
		}
	}
	if k.proc.Weighting.On() {
		k.halves = make([]float32, k.cfg.Chunk)
		if k.batch.Roots, err = tensor.New(k.be, tensor.F32, tensor.Of(k.cfg.Chunk)); err != nil {
			return err
		}
	}
	k.noise = k.batch.Target
	if k.targetIsNoise() {
		return nil
	}
	if k.noise, err = tensor.New(k.be, tensor.F32, images); err != nil {
		return err
	}
	k.targets, err = newMix(k.be, k.cfg.Chunk)
	return err
}

// targetIsNoise says whether the noise itself is what the model's output is compared
// with.
func (k *chunker) targetIsNoise() bool {
	return k.proc.Prediction == diffusion.Epsilon && !k.proc.Weighting.On()
}

// classes uploads the classes of the draws, some of them dropped.
func (k *chunker) classes() error {
	k.labeler.Labels(k.labels, k.draws)
	if k.cfg.LabelDropout > 0 {
		dropped := rng.New(k.cfg.Seed, rng.StreamLabel)
		for i, draw := range k.draws {
			if dropped.Float64(uint64(draw)) < k.cfg.LabelDropout {
				k.labels[i] = int64(k.cfg.NumClasses - 1)
			}
		}
	}
	if err := unet.OneHot(k.rows, k.labels, k.cfg.NumClasses); err != nil {
		return err
	}
	k.be.Upload(k.batch.Classes.Buf, k.rows)
	return nil
}

// compute runs forward and backward of one chunk of a step and leaves the gradient of
// the batch's mean loss in the model, and the squared errors of its images in losses. It
// does not wait for the device. Meanwhile the images of the draws from next on are loaded
// (-1: none).
func (k *chunker) compute(ctx context.Context, step int64, chunk int, next int64, losses tensor.Tensor, ready func(i int)) error {
	first, targetIsNoise := k.firstDraw(step, chunk), k.targetIsNoise()
	for i := range k.draws {
		draw := first + int64(i)
		t := diffusion.Timestep(k.cfg.Seed, uint64(draw), len(k.proc.Schedule.Betas))
		k.draws[i], k.times[i] = draw, int64(t)
		signal, noise := k.proc.Schedule.QSampleCoefficients(t)
		k.noising.set(i, signal, noise)
		if targetIsNoise {
			continue
		}
		signal, noise = k.proc.Prediction.TargetCoefficients(k.proc.Schedule, t)
		root := 1.0
		if k.halves != nil {
			root = math.Sqrt(k.proc.Weighting.At(k.proc.Schedule, t, k.proc.Prediction))
			k.halves[i] = float32(root / 2)
		}
		k.targets.set(i, root*signal, root*noise)
	}
	if k.labeler != nil {
		if err := k.classes(); err != nil {
			return fmt.Errorf("trainer: step %d, chunk %d: %w", step, chunk, err)
		}
	}
	began := time.Now()
	images, err := k.ahead.take(ctx, first, next)
	k.loading += time.Since(began)
	if err != nil {
		return fmt.Errorf("trainer: load step %d, chunk %d: %w", step, chunk, err)
	}
	b := k.batch
	k.be.UploadInt64(b.Draws.Buf, k.draws)
	k.be.UploadInt64(b.T.Buf, k.times)
	k.be.Upload(k.clean.Buf, images)
	k.be.Normal(k.noise, b.Draws, k.cfg.Seed, uint32(rng.StreamNoise))
	k.noising.apply(k.be, b.XT, k.clean, k.noise)
	if k.halves != nil {
		k.be.Upload(b.Roots.Buf, k.halves)
	}
	if !targetIsNoise {
		k.targets.apply(k.be, b.Target, k.clean, k.noise)
	}
	b.Losses = losses
	if _, err := k.model.LossAndGrad(b, ready); err != nil {
		return fmt.Errorf("trainer: step %d, chunk %d: %w", step, chunk, err)
	}
	return nil
}

// firstDraw numbers the uses of samples over the whole run.
func (k *chunker) firstDraw(step int64, chunk int) int64 {
	return step*int64(k.cfg.GlobalBatch) + int64(chunk)*int64(k.cfg.Chunk)
}
