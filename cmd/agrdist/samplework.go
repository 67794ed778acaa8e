package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/eval/judge"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/setup"
)

// smallModel is the number of parameters up to which a model is better computed by a
// worker on each core than by all cores together.
const smallModel = 4_000_000

// split says how many workers sample at once and how many threads each has.
func (o *sampling) split(parameters, batches int) (workers, threads int) {
	if setup.GPUs(o.device) > 0 {
		return 1, o.threads
	}
	cores := o.threads
	if cores == 0 {
		cores = runtime.GOMAXPROCS(0)
	}
	workers = o.workers
	if workers == 0 {
		workers = 1
		if parameters <= smallModel {
			workers = cores
		}
	}
	workers = max(1, min(workers, batches))
	return workers, max(1, cores/workers)
}

// team is the models that sample at once, each on a device of its own.
type team struct {
	models   []*unet.Model
	devices  []*setup.Device
	rounding string
	fallback error // why it is the CPU
}

func (t *team) close() {
	for _, d := range t.devices {
		_ = d.Close() // nothing of it is kept
	}
}

// openTeam opens the devices and loads the model on each.
func (o *sampling) openTeam(cfg *config.Config, tensors []weights.Tensor, batches int) (*team, error) {
	parameters := 0
	for _, w := range tensors {
		parameters += len(w.Data)
	}
	workers, threads := o.split(parameters, batches)
	t := &team{}
	for range workers {
		dev, err := o.open(threads)
		if err != nil {
			t.close()
			return nil, err
		}
		t.devices = append(t.devices, dev)
		t.rounding, t.fallback = dev.Rounding, dev.Fallback
		model, err := setup.Model(dev.Backend, cfg)
		if err == nil {
			if err = model.Load(tensors); err != nil {
				err = fmt.Errorf("%s: %w", o.from, err)
			}
		}
		if err != nil {
			t.close()
			return nil, err
		}
		t.models = append(t.models, model)
	}
	return t, nil
}

// definition is what the images are a function of, as text: whoever continues in a
// directory or a file of images must have the same.
func definition(tensors []weights.Tensor, s diffusion.SamplerConfig, seed uint64, rounding string) []byte {
	b, err := json.MarshalIndent(struct {
		Weights string                  `json:"weights_digest"`
		Sampler diffusion.SamplerConfig `json:"sampler"`
		Seed    uint64                  `json:"seed"`
		Device  string                  `json:"device"` // devices round differently
	}{judge.Digest(tensors), s, seed, rounding}, "", "  ")
	if err != nil {
		panic("agrdist: " + err.Error()) // a field JSON has no form for
	}
	return append(b, '\n')
}

// batchOf is a batch of finished images.
type batchOf struct {
	index  int // of the batch
	images []float32
}

// generate samples the images from the sink's first missing one on: batches are computed
// by all workers and go into the sink in order. No worker gets far ahead of the sink.
func (o *sampling) generate(ctx context.Context, s *diffusion.Sampler, t *team, seed uint64, out sink, tr *trace, bar *counter) error {
	start := out.done()
	batches := (o.count - start + o.batch - 1) / o.batch
	calls := len(s.Timesteps())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ahead := make(chan struct{}, 2*len(t.models))
	results := make(chan batchOf)
	var next, made atomic.Int64
	var wg sync.WaitGroup
	work := func(m *unet.Model) error {
		for {
			select {
			case ahead <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			b := int(next.Add(1)) - 1
			if b >= batches {
				return nil
			}
			lo := start + b*o.batch
			hi := min(lo+o.batch, o.count)
			progress := func(_, _ int) { bar.set(int(made.Add(1)), batches*calls) }
			var watch func(images []float32, done, total int)
			if b == 0 && tr != nil {
				watch = tr.see
			}
			images, err := setup.GenerateTraced(ctx, s, m, seed, lo, hi, o.batch, progress, watch)
			if err != nil {
				return err
			}
			select {
			case results <- batchOf{b, images}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	for _, m := range t.models {
		wg.Go(func() {
			if err := work(m); err != nil {
				cancel(err)
			}
		})
	}
	go func() { wg.Wait(); close(results) }()
	waiting := map[int][]float32{}
	written := 0
	for r := range results {
		waiting[r.index] = r.images
		for ; waiting[written] != nil && ctx.Err() == nil; written++ {
			if err := out.add(start+written*o.batch, waiting[written]); err != nil {
				cancel(err)
			}
			delete(waiting, written)
			<-ahead
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return out.finish()
}
