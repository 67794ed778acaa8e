package trainer

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// chunker computes the loss and gradient of one chunk: a function of (config,
// seed, step, chunk index, weights) and of nothing else.
type chunker struct {
	cfg    Config
	proc   Process
	be     tensor.Backend
	model  Model
	loader Loader

	draws, times   []int64
	x0             []float32 // host images of a chunk
	signal, noise  []float32 // QSample coefficients by sample
	tsig, tnoise   []float32 // target coefficients by sample
	dx0, deps, dxt tensor.Tensor
	dtarget        tensor.Tensor
	dsignal        tensor.Tensor
	dnoise         tensor.Tensor
	dtsig, dtnoise tensor.Tensor
	ddraws, dtimes tensor.Tensor
	scale          float32

	dlosses tensor.Buffer // of all samples of a batch, where they stay on the device
	hlosses []float32     // the same, on the host
}

// newChunker allocates what a chunk of images of h x w x c needs.
func newChunker(cfg Config, proc Process, be tensor.Backend, m Model, l Loader, h, w, c int) (*chunker, error) {
	n := cfg.Chunk
	k := &chunker{
		cfg: cfg, proc: proc, be: be, model: m, loader: l,
		draws: make([]int64, n), times: make([]int64, n), x0: make([]float32, n*h*w*c),
		signal: make([]float32, n), noise: make([]float32, n),
		tsig: make([]float32, n), tnoise: make([]float32, n),
		scale: float32(1 / (float64(cfg.GlobalBatch) * float64(h*w*c))),
	}
	images, each := tensor.Of(n, h, w, c), tensor.Of(n)
	for _, a := range []struct {
		t  *tensor.Tensor
		dt tensor.DType
		s  tensor.Shape
	}{
		{&k.dx0, tensor.F32, images},
		{&k.deps, tensor.F32, images},
		{&k.dxt, tensor.F32, images},
		{&k.dsignal, tensor.F32, each},
		{&k.dnoise, tensor.F32, each},
		{&k.ddraws, tensor.I64, each},
		{&k.dtimes, tensor.I64, each},
		{&k.dtarget, tensor.F32, images},
		{&k.dtsig, tensor.F32, each},
		{&k.dtnoise, tensor.F32, each},
	} {
		if a.t == &k.dtarget && proc.Prediction == diffusion.Epsilon {
			break // the target is the noise itself
		}
		b, err := be.Alloc(a.dt, a.s.Len())
		if err != nil {
			return nil, fmt.Errorf("trainer: room for a chunk: %w", err)
		}
		*a.t = tensor.Tensor{Buf: b, Shape: a.s}
	}
	return k, nil
}

// keepLosses leaves the losses on the device until they are asked for, so that the
// host does not wait for each chunk.
func (k *chunker) keepLosses() (err error) {
	k.hlosses = make([]float32, k.cfg.GlobalBatch)
	if k.dlosses, err = k.be.Alloc(tensor.F32, k.cfg.GlobalBatch); err != nil {
		return fmt.Errorf("trainer: room for losses: %w", err)
	}
	return nil
}

// appendLosses reads what compute would have returned for the chunks [lo, hi).
func (k *chunker) appendLosses(own []float64, lo, hi int) ([]float64, error) {
	n := k.cfg.Chunk
	host := k.hlosses[lo*n : hi*n]
	if len(host) == 0 {
		return own, nil
	}
	if err := k.be.Download(host, k.be.Slice(k.dlosses, lo*n, len(host))); err != nil {
		return nil, fmt.Errorf("trainer: losses: %w", err)
	}
	for ; len(host) > 0; host = host[n:] {
		var sum float64
		for _, l := range host[:n] {
			sum += float64(l)
		}
		own = append(own, sum)
	}
	return own, nil
}

// compute runs forward and backward of one chunk of a step. The gradient of the
// batch's mean loss is left in the model; the chunk's sum of squared errors is
// returned, but after keepLosses.
func (k *chunker) compute(step int64, chunk int, ready func(i int)) (float64, error) {
	first := k.firstDraw(step, chunk)
	T := len(k.proc.Schedule.Betas)
	for i := range k.draws {
		draw := first + int64(i)
		t := diffusion.Timestep(k.cfg.Seed, uint64(draw), T)
		k.draws[i], k.times[i] = draw, int64(t)
		s, n := k.proc.Schedule.QSampleCoefficients(t)
		k.signal[i], k.noise[i] = float32(s), float32(n)
		a, b := k.proc.Prediction.TargetCoefficients(k.proc.Schedule, t)
		k.tsig[i], k.tnoise[i] = float32(a), float32(b)
	}
	if err := k.loader.Load(k.x0, k.draws); err != nil {
		return 0, fmt.Errorf("trainer: load step %d, chunk %d: %w", step, chunk, err)
	}
	k.be.UploadInt64(k.ddraws.Buf, k.draws)
	k.be.UploadInt64(k.dtimes.Buf, k.times)
	k.be.Upload(k.dx0.Buf, k.x0)
	k.be.Upload(k.dsignal.Buf, k.signal)
	k.be.Upload(k.dnoise.Buf, k.noise)
	k.be.Normal(k.deps, k.ddraws, k.cfg.Seed, uint32(rng.StreamNoise))
	k.be.QSample(k.dxt, k.dx0, k.deps, k.dsignal, k.dnoise)
	target := k.deps
	if k.proc.Prediction != diffusion.Epsilon {
		k.be.Upload(k.dtsig.Buf, k.tsig)
		k.be.Upload(k.dtnoise.Buf, k.tnoise)
		k.be.QSample(k.dtarget, k.dx0, k.deps, k.dtsig, k.dtnoise)
		target = k.dtarget
	}
	b := unet.Batch{
		XT: k.dxt, Target: target, T: k.dtimes, Draws: k.ddraws,
		GradScale: k.scale, Seed: k.cfg.Seed, Train: true,
	}
	if n := k.cfg.Chunk; k.dlosses != nil {
		b.Losses = tensor.Tensor{Buf: k.be.Slice(k.dlosses, chunk*n, n), Shape: tensor.Of(n)}
	}
	loss, err := k.model.LossAndGrad(b, ready)
	if err != nil {
		return math.NaN(), fmt.Errorf("trainer: step %d, chunk %d: %w", step, chunk, err)
	}
	return loss, nil
}

// firstDraw numbers the uses of samples over the whole run.
func (k *chunker) firstDraw(step int64, chunk int) int64 {
	return step*int64(k.cfg.GlobalBatch) + int64(chunk)*int64(k.cfg.Chunk)
}
