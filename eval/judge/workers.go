package judge

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/eval/heldout"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/setup"
)

// worker is a device with the model and the feature network on it, used by one
// goroutine at a time.
type worker struct {
	j       *judge
	dev     *setup.Device
	model   *unet.Model
	extract extractor
}

// openWorkers opens a device for each worker: a GPU, or a thread each.
func (j *judge) openWorkers() error {
	n := j.o.Workers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if setup.GPUs(j.o.Device) > 0 {
		n = 1
	}
	for range n {
		dev, err := setup.Open(setup.DeviceConfig{Device: j.o.Device, Precision: j.o.Precision, Threads: 1})
		if err != nil {
			return &config.Error{Source: "--device", Err: err}
		}
		j.closers = append(j.closers, dev.Close)
		if j.model.Images != nil {
			j.workers = append(j.workers, &worker{j: j, dev: dev})
			continue
		}
		model, err := setup.Model(dev.Backend, j.model.Config)
		if err != nil {
			return err
		}
		if err := model.Load(j.model.Weights); err != nil {
			return fmt.Errorf("%s: %w", j.model.Path, err)
		}
		j.workers = append(j.workers, &worker{j: j, dev: dev, model: model})
	}
	return nil
}

func (j *judge) suiteWorkers(as func(*worker) suite.Worker) []suite.Worker {
	out := make([]suite.Worker, len(j.workers))
	for i, w := range j.workers {
		out[i] = as(w)
	}
	return out
}

// features takes the features and logits of images [n, height, width, channels].
func (w *worker) features(images []float32, n, height, width, channels int) (features, logits []float32, err error) {
	features, logits = make([]float32, n*w.j.network.features()), make([]float32, n*w.j.network.classes())
	return features, logits, w.extract.extract(features, logits, images, height, width, channels)
}

// generator draws the images of a block and takes their features.
type generator struct{ *worker }

// Block implements suite.Worker.
func (g generator) Block(ctx context.Context, lo, hi int) (features, logits []float32, err error) {
	images, err := setup.Generate(ctx, g.j.sampler, g.model, g.j.o.Seed, lo, hi, hi-lo, nil)
	if err != nil {
		return nil, nil, err
	}
	Round8(images)
	m := g.j.model.Config.Model
	return g.features(images, hi-lo, m.SampleSize, m.SampleSize, m.InChannels)
}

// reader takes the features of a data set's images.
type reader struct {
	*worker
	set data.Dataset
}

// Block implements suite.Worker.
func (r reader) Block(_ context.Context, lo, hi int) (features, logits []float32, err error) {
	h, w, c := r.set.Size()
	images := make([]float32, (hi-lo)*h*w*c)
	for i := lo; i < hi; i++ {
		if err := r.set.Read(images[(i-lo)*h*w*c:][:h*w*c], i); err != nil {
			return nil, nil, fmt.Errorf("%s: image %d: %w", r.set.Name(), i, err)
		}
	}
	return r.features(images, hi-lo, h, w, c)
}

// Round8 rounds images in [-1, 1] to 256 levels, as a file would; what lies outside is
// clipped. NaN stays.
func Round8(images []float32) {
	for i, v := range images {
		if v-v == 0 {
			level := math.Round((min(max(float64(v), -1), 1) + 1) * 127.5) // as package grid writes it
			images[i] = float32(level)/127.5 - 1                           // as package data reads it
		}
	}
}

// loss measures the held-out loss, a share of the images on each worker.
func (j *judge) loss(ctx context.Context) (suite.Metric, error) {
	n, c := j.heldOut.Len(), heldout.DefaultConfig()
	c.Batch = j.o.Batch
	process := heldout.Process{Schedule: j.model.Schedule, Prediction: j.model.Sampler.Prediction}
	if j.model.Config.Model.NumClassEmbeds > 0 {
		process.Label = j.heldOut.Label
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	losses := make([]float64, n)
	var wg sync.WaitGroup
	for i, w := range j.workers {
		lo, hi := i*n/len(j.workers), (i+1)*n/len(j.workers)
		wg.Go(func() {
			share, err := heldout.Losses(ctx, w.model, process, j.heldOut, c, lo, hi)
			if err != nil {
				cancel(err)
			}
			copy(losses[lo:], share)
		})
	}
	j.o.Progress("held-out loss", 0, 1, 0)
	wg.Wait()
	if ctx.Err() != nil {
		return suite.Metric{}, context.Cause(ctx)
	}
	mean, stdErr, err := heldout.Summary(losses)
	return suite.Metric{Value: mean, Deviation: &stdErr}, err
}
