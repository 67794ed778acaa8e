package classifier

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// every sixth image is kept from training, for Accuracy.
const heldOut = 6

// trainIndex is the i-th image to train on, testIndex the i-th one kept from it.
func trainIndex(i int) int { return i + i/(heldOut-1) }
func testIndex(i int) int  { return i*heldOut + heldOut - 1 }

func testLen(n int) int { return n / heldOut }

// Train trains from scratch on five sixths of a labelled data set. It is a function
// of the configuration and the data: which image, which noise, belongs to a draw.
// progress, where given, is told the steps done and in all.
func (k *Classifier) Train(ctx context.Context, set data.Dataset, progress func(done, total int)) error {
	c := k.config
	if err := k.accepts(set); err != nil {
		return err
	}
	k.Init()
	n := set.Len() - testLen(set.Len())
	perEpoch := max(1, n/c.Batch)
	t := &trainer{
		k: k, set: set, order: data.NewSampler(c.Seed, n), noise: rng.New(c.Seed, rng.StreamNoise), level: rng.New(c.Seed, rng.StreamAugment),
		labels: make([]int, c.Batch), logits: make([]float32, c.Batch*c.Classes), eps: make([]float32, c.ImageLen()),
		rate: optim.LRConfig{Base: c.LR, WarmupSteps: int64(perEpoch), Schedule: optim.Cosine, TotalSteps: int64(perEpoch*c.Epochs + 1)},
	}
	var err error
	if t.forward, err = k.record(c.Batch, false); err != nil {
		return err
	}
	if t.backward, err = k.record(c.Batch, true); err != nil {
		return err
	}
	o, err := optim.DefaultConfig("adamw")
	if err != nil {
		return err
	}
	o.LR, o.WeightDecay = c.LR, c.WeightDecay
	if t.optimizer, err = optim.New(o, segments(k.params), k.params.FlatLen(), nil); err != nil {
		return err
	}
	for step := range perEpoch * c.Epochs {
		if ctx.Err() != nil {
			return fmt.Errorf("classifier: training stopped: %w", context.Cause(ctx))
		}
		if err := t.step(step); err != nil {
			return err
		}
		if progress != nil {
			progress(step+1, perEpoch*c.Epochs)
		}
	}
	return nil
}

// accepts checks that the network was made for a data set.
func (k *Classifier) accepts(set data.Dataset) error {
	c := k.config
	if h, w, ch := set.Size(); h != c.Size || w != c.Size || ch != c.Channels {
		return fmt.Errorf("classifier: images of %dx%dx%d, it was made for %dx%dx%d", h, w, ch, c.Size, c.Size, c.Channels)
	}
	if n := set.Len(); n < heldOut {
		return fmt.Errorf("classifier: %s has %d images; training needs at least %d", set.Name(), n, heldOut)
	}
	for i := range set.Len() {
		if l := set.Label(i); l < 0 || l >= c.Classes {
			return fmt.Errorf("classifier: image %d of %s has label %d; it must be 0 to %d", i, set.Name(), l, c.Classes-1)
		}
	}
	return nil
}

func segments(p *nn.Params) []optim.Segment {
	var out []optim.Segment
	for _, q := range p.List() {
		out = append(out, optim.Segment{Name: q.Name, Off: q.Off, Len: q.Len})
	}
	return out
}

// trainer is what a training keeps.
type trainer struct {
	k                 *Classifier
	set               data.Dataset
	order             *data.Sampler
	noise, level      rng.Source
	rate              optim.LRConfig
	optimizer         optim.Optimizer
	forward, backward *pass
	labels            []int
	logits            []float32
	eps               []float32
}

// step does one update. The tape knows the squared error but no cross-entropy: with
// the target logits - (softmax - one-hot)/2 the gradient of the one, 2 (logits -
// target), is that of the other.
func (t *trainer) step(step int) error {
	k, c := t.k, t.k.config
	for i := range c.Batch {
		if err := t.image(i, uint64(step*c.Batch+i)); err != nil {
			return err
		}
	}
	k.be.Upload(t.forward.images.Buf, t.forward.host)
	k.be.Upload(t.backward.images.Buf, t.forward.host)
	if err := t.forward.Run(autograd.Step{}); err != nil {
		return fmt.Errorf("classifier: %w", err)
	}
	if err := k.be.Download(t.logits, t.forward.logits.Tensor().Buf); err != nil {
		return fmt.Errorf("classifier: %w", err)
	}
	for i, label := range t.labels {
		row := t.logits[i*c.Classes:][:c.Classes]
		p := eval.Softmax(row)
		p[label]--
		for j := range row {
			row[j] -= float32(p[j] / 2)
		}
	}
	k.be.Upload(t.backward.to.Buf, t.logits)
	if err := t.backward.Run(autograd.Step{GradScale: 1 / float32(c.Batch)}); err != nil {
		return fmt.Errorf("classifier: %w", err)
	}
	values, ok := k.params.Values().(tensor.Host)
	grads, ok2 := k.params.Grads().(tensor.Host)
	if !ok || !ok2 {
		return fmt.Errorf("classifier: %s keeps its memory to itself; train on the processor", k.be.Name())
	}
	t.optimizer.Step(values.Float32s(), grads.Float32s(), t.rate.At(int64(step)), int64(step)+1)
	return nil
}

// image reads the image of a draw into place i of the batch and adds its noise.
func (t *trainer) image(i int, draw uint64) error {
	c := t.k.config
	_, at := t.order.Index(draw)
	at = trainIndex(at)
	dst := t.forward.host[i*c.ImageLen():][:c.ImageLen()]
	if err := t.set.Read(dst, at); err != nil {
		return fmt.Errorf("classifier: image %d of %s: %w", at, t.set.Name(), err)
	}
	t.labels[i] = t.set.Label(at)
	t.noise.Normal(t.eps, draw)
	sigma := float32(c.Noise * t.level.Float64(draw))
	for j, e := range t.eps {
		dst[j] += float32(sigma * e) // the conversion forbids a fused multiply-add
	}
	return nil
}

// Accuracy is the part of the images kept from training that get their label.
func (k *Classifier) Accuracy(set data.Dataset) (float64, error) {
	if err := k.accepts(set); err != nil {
		return 0, err
	}
	c, n := k.config, testLen(set.Len())
	image, logits := make([]float32, c.ImageLen()*batch), make([]float32, c.Classes*batch)
	right := 0
	for lo := 0; lo < n; lo += batch {
		m := min(batch, n-lo)
		for i := range m {
			if err := set.Read(image[i*c.ImageLen():][:c.ImageLen()], testIndex(lo+i)); err != nil {
				return 0, fmt.Errorf("classifier: %w", err)
			}
		}
		if err := k.Classify(nil, logits[:m*c.Classes], image[:m*c.ImageLen()]); err != nil {
			return 0, err
		}
		for i := range m {
			if best(logits[i*c.Classes:][:c.Classes]) == set.Label(testIndex(lo+i)) {
				right++
			}
		}
	}
	return float64(right) / float64(n), nil
}

func best(logits []float32) int {
	at := 0
	for i, v := range logits {
		if v > logits[at] {
			at = i
		}
	}
	return at
}
