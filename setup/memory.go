package setup

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// Memory is what training takes of a device's memory, in bytes. What libraries take
// for themselves, and the staging of other ranks' sums (a fraction of a bucket), is
// not in it.
type Memory struct {
	Parameters  int // elements of the model
	Chunk       int // images of a chunk
	Values      int64
	Gradients   int64
	Average     int64
	Moments     int64
	Sums        int64 // gradients of chunks that wait for their siblings
	Activations int64 // of one chunk, its input included
	Kept        int64 // more of them, where nothing is computed twice (unet.Model.KeepActivations)
}

// Total is the sum without Kept, which training can do without.
func (m Memory) Total() int64 {
	return m.Values + m.Gradients + m.Average + m.Moments + m.Sums + m.Activations
}

func (m Memory) String() string {
	return fmt.Sprintf("%d parameters: values %s, gradients %s, average %s, moments %s, sums %s; activations of %d images %s",
		m.Parameters, gib(m.Values), gib(m.Gradients), gib(m.Average), gib(m.Moments), gib(m.Sums), m.Chunk, gib(m.Activations))
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

// MemoryOf works out what one worker needs when it trains alone, which is when the
// sums are largest. It records the model's step on a backend that computes nothing:
// the numbers are those of a GPU's allocations, which holds activations in the
// precision of the run.
func MemoryOf(c *config.Config) (Memory, error) {
	m := Memory{Chunk: c.Train.Chunk}
	o, err := OptimizerConfig(c)
	if err != nil {
		return m, err
	}
	precision, err := Precision(c.Train.Precision)
	if err != nil {
		return m, err
	}
	be := &meter{activations: precision}
	model, err := unet.New(be, UNet(c.Model))
	if err != nil {
		return m, err
	}
	flat := 4 * int64(model.Params().FlatLen())
	m.Parameters, m.Values, m.Gradients = model.Params().Count(), flat, flat
	if c.Train.EMADecay > 0 {
		m.Average = flat
	}
	rule, err := optim.New(o, nil, 1, nil)
	if err != nil {
		return m, err
	}
	m.Moments = flat * int64(len(rule.Slots()))
	m.Average += flat * int64(len(c.Train.EMAProfiles))

	before := be.bytes
	batch, err := emptyBatch(be, c)
	if err != nil {
		return m, err
	}
	if _, err := model.LossAndGrad(batch, nil); err != nil {
		return m, err
	}
	m.Activations = be.bytes - before
	model.KeepActivations(true)
	if _, err := model.LossAndGrad(batch, nil); err != nil {
		return m, err
	}
	m.Kept = be.bytes - before - m.Activations

	plan, err := allreduce.NewPlan(c.Train.GlobalBatch/c.Train.Chunk, 1)
	if err != nil {
		return m, err
	}
	before = be.bytes
	if err := allreduce.NewDeviceAccumulator(be, model.Params().FlatLen()).Begin(plan, 0); err != nil {
		return m, err
	}
	m.Sums = be.bytes - before
	return m, nil
}

// emptyBatch has the shapes of a chunk; the clean images and the noise are allocated
// beside it.
func emptyBatch(be tensor.Backend, c *config.Config) (unet.Batch, error) {
	images := tensor.Of(c.Train.Chunk, c.Model.SampleSize, c.Model.SampleSize, c.Model.InChannels)
	for range 2 {
		if _, err := be.Alloc(tensor.F32, images.Len()); err != nil {
			return unet.Batch{}, err
		}
	}
	batch, err := unet.NewBatch(be, images)
	if k := c.Model.NumClassEmbeds; k > 0 && err == nil {
		batch.Classes, err = tensor.New(be, tensor.F32, tensor.Of(c.Train.Chunk, k))
	}
	if Weighting(c).On() && err == nil {
		batch.Roots, err = tensor.New(be, tensor.F32, tensor.Of(c.Train.Chunk))
	}
	return batch, err
}
