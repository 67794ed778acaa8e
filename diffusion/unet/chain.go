package unet

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// Guide says of which classes a conditional model draws images, and how strongly. The zero
// Guide is for a model that is not conditional.
type Guide struct {
	Labels []int64 // a class for each image
	None   []int64 // the class that stands for none, for each image
	Scale  float64 // 1: the class alone; 0: none
}

// Chain keeps images on the model's device while a sampler takes them from step to step
// there. The model is used for nothing else until Close.
type Chain struct {
	model      *Model
	on         tensor.Sampling
	guide      Guide
	t          []int64
	x          tensor.Tensor // where the network reads it
	ids        tensor.Tensor
	none, a, b tensor.Tensor // absent where nobody needs them
	errors     tensor.Tensor // by image
	found      []float32     // the same on the host
}

// NewChain makes a chain of the images ids; keeps says that the sampler keeps two tensors
// between steps. ok is false where the backend has no tensor.Sampling: such images go
// through the host.
func (m *Model) NewChain(ids []uint64, keeps bool, g Guide) (c *Chain, ok bool, err error) {
	on, ok := m.be.(tensor.Sampling)
	if !ok || m.config.InChannels != m.config.OutChannels {
		return nil, false, nil
	}
	n := len(ids)
	c = &Chain{model: m, on: on, guide: g, t: make([]int64, n), found: make([]float32, n)}
	shape := m.shape(n, m.config.InChannels)
	want := []*tensor.Tensor{&c.errors}
	shapes := []tensor.Shape{tensor.Of(n)}
	add := func(shape tensor.Shape, tensors ...*tensor.Tensor) {
		for _, t := range tensors {
			want, shapes = append(want, t), append(shapes, shape)
		}
	}
	if keeps {
		add(shape, &c.a, &c.b)
	}
	if g.Labels != nil && g.Scale != 0 && g.Scale != 1 {
		add(shape, &c.none)
	}
	for i, t := range want {
		if *t, err = tensor.New(m.be, tensor.F32, shapes[i]); err != nil {
			c.Close()
			return nil, false, fmt.Errorf("unet: room for sampling: %w", err)
		}
	}
	buf, err := m.be.Alloc(tensor.I64, n)
	if err != nil {
		c.Close()
		return nil, false, fmt.Errorf("unet: room for sampling: %w", err)
	}
	numbers := make([]int64, n)
	for i, id := range ids {
		numbers[i] = int64(id)
	}
	m.be.UploadInt64(buf, numbers)
	c.ids = tensor.Tensor{Buf: buf, Shape: tensor.Of(n)}
	return c, true, nil
}

// Close gives the chain's memory back.
func (c *Chain) Close() {
	for _, t := range []*tensor.Tensor{&c.ids, &c.errors, &c.none, &c.a, &c.b} {
		if t.Present() {
			c.model.be.Free(t.Buf)
			*t = tensor.Tensor{}
		}
	}
}

// Begin brings x_T to the device, [n,H,W,C].
func (c *Chain) Begin(x []float32) (err error) {
	m := c.model
	shape := m.shape(len(c.t), m.config.InChannels)
	if len(x) != shape.Len() {
		return fmt.Errorf("%w: %d values for %v", ErrBatch, len(x), shape)
	}
	if c.x, err = m.runner.in.x.images(m.be, shape, x); err != nil {
		return err
	}
	for _, t := range []tensor.Tensor{c.a, c.b} {
		if t.Present() {
			m.be.Fill(t, 0)
		}
	}
	return nil
}

// Advance calls the network at timestep t and takes the images one step further. k.Scale
// is the chain's own.
func (c *Chain) Advance(t int, k tensor.SamplerStep) error {
	for i := range c.t {
		c.t[i] = int64(t)
	}
	k.Scale = c.guide.Scale
	labels := c.guide.Labels
	switch {
	case labels == nil:
	case c.none.Present():
		none, err := c.model.predict(c.x, c.t, c.guide.None)
		if err != nil {
			return err
		}
		c.model.be.Copy(c.none, none)
	case k.Scale == 0:
		labels = c.guide.None
	}
	out, err := c.model.predict(c.x, c.t, labels)
	if err != nil {
		return err
	}
	c.on.SamplerStep(c.x, out, c.none, c.a, c.b, c.ids, k)
	return nil
}

// Finite waits for the device and returns the place of the first image for which the
// network's output was not finite; -1: there is none.
func (c *Chain) Finite() (image int, err error) {
	be := c.model.be
	// What is not finite does not differ from itself by 0.
	be.MSE(c.errors, tensor.Tensor{}, c.x, c.x, 1)
	if err := be.Download(c.found, c.errors.Buf); err != nil {
		return -1, fmt.Errorf("unet: sampling: %w", err)
	}
	for i, e := range c.found {
		if math.IsNaN(float64(e)) {
			return i, nil
		}
	}
	return -1, nil
}

// End brings the images to the host.
func (c *Chain) End(x []float32) error {
	if err := c.model.be.Download(x, c.x.Buf); err != nil {
		return fmt.Errorf("unet: sampling: %w", err)
	}
	return nil
}

// predict is the model's output for images x on the device, in memory that the next call
// writes over.
func (m *Model) predict(x tensor.Tensor, t, labels []int64) (tensor.Tensor, error) {
	p, err := m.runner.program(mode{n: len(t)})
	if err != nil {
		return tensor.Tensor{}, err
	}
	ts, err := m.runner.in.ts.integers(m.be, t)
	if err != nil {
		return tensor.Tensor{}, err
	}
	if p.classes != nil {
		rows, err := m.oneHot(labels, len(t))
		if err != nil {
			return tensor.Tensor{}, err
		}
		p.Bind(p.classes, rows)
	}
	p.Bind(p.x, x)
	p.Bind(p.ts, ts)
	if err := p.Replay(autograd.Step{}); err != nil {
		return tensor.Tensor{}, fmt.Errorf("unet: %w", err)
	}
	return p.pred.Tensor(), nil
}
