package unet

import (
	"fmt"
	"math"
	"slices"

	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor"
)

// Layout is the order of the dimensions of images on the host.
type Layout uint8

// Layouts of host images.
const (
	NHWC Layout = iota // channels innermost: the project's
	NCHW               // PyTorch's
)

// staging is the device memory that host slices are copied to.
type staging struct {
	x, target, ts, draws, classes, roots input
}

// input is one buffer of staging and its views by their length: whoever asks for a
// length again gets the same buffer, so that a recorded program can be replayed.
type input struct {
	whole tensor.Buffer
	views map[int]tensor.Buffer
}

// reserve returns a buffer of n elements.
func (in *input) reserve(be tensor.Backend, dt tensor.DType, n int) (tensor.Buffer, error) {
	if in.whole == nil || in.whole.Len() < n {
		in.free(be)
		whole, err := be.Alloc(dt, n)
		if err != nil {
			return nil, fmt.Errorf("unet: input of %d elements: %w", n, err)
		}
		in.whole, in.views = whole, map[int]tensor.Buffer{}
	}
	if in.views[n] == nil {
		in.views[n] = be.Slice(in.whole, 0, n)
	}
	return in.views[n], nil
}

func (in *input) free(be tensor.Backend) {
	if in.whole != nil {
		be.Free(in.whole)
	}
	*in = input{}
}

func (s *staging) free(be tensor.Backend) {
	for _, in := range []*input{&s.x, &s.target, &s.ts, &s.draws, &s.classes, &s.roots} {
		in.free(be)
	}
}

// images copies host images [n,H,W,C] to the device.
func (in *input) images(be tensor.Backend, shape tensor.Shape, host []float32) (tensor.Tensor, error) {
	buf, err := in.reserve(be, tensor.F32, len(host))
	if err != nil {
		return tensor.Tensor{}, err
	}
	be.Upload(buf, host)
	return tensor.Tensor{Buf: buf, Shape: shape}, nil
}

// integers copies [n] host integers to the device.
func (in *input) integers(be tensor.Backend, host []int64) (tensor.Tensor, error) {
	buf, err := in.reserve(be, tensor.I64, len(host))
	if err != nil {
		return tensor.Tensor{}, err
	}
	be.UploadInt64(buf, host)
	return tensor.Tensor{Buf: buf, Shape: tensor.Of(len(host))}, nil
}

// OneHot writes rows [len(labels),classes] that are 1 at the label and 0 elsewhere. A
// label outside [0, classes) is an error that wraps ErrBatch.
func OneHot(dst []float32, labels []int64, classes int) error {
	if len(dst) != len(labels)*classes {
		return fmt.Errorf("%w: %d values for %d rows of %d classes", ErrBatch, len(dst), len(labels), classes)
	}
	clear(dst)
	for i, l := range labels {
		if l < 0 || l >= int64(classes) {
			return fmt.Errorf("%w: sample %d has class %d; the model has classes 0 to %d", ErrBatch, i, l, classes-1)
		}
		dst[i*classes+int(l)] = 1
	}
	return nil
}

// oneHot copies labels to the device as one-hot rows.
func (m *Model) oneHot(labels []int64, n int) (tensor.Tensor, error) {
	k := m.config.NumClassEmbeds
	if len(labels) != n {
		return tensor.Tensor{}, fmt.Errorf("%w: %d classes for %d samples of a conditional model", ErrBatch, len(labels), n)
	}
	rows := make([]float32, n*k)
	if err := OneHot(rows, labels, k); err != nil {
		return tensor.Tensor{}, err
	}
	return m.runner.in.classes.images(m.be, tensor.Of(n, k), rows)
}

// Predict writes the model's output for images x [n,H,W,C] at timesteps t [n] into
// dst, without dropout. A sample's output is the same bits in any batch. Errors
// wrap ErrBatch or come from the device.
func (m *Model) Predict(dst, x []float32, t []int64) error { return m.PredictClasses(dst, x, t, nil) }

// PredictClasses is Predict of a conditional model, for images of the classes labels
// [n].
func (m *Model) PredictClasses(dst, x []float32, t, labels []int64) error {
	shape := m.shape(len(t), m.config.InChannels)
	if want := m.shape(len(t), m.config.OutChannels); len(t) == 0 || len(x) != shape.Len() || len(dst) != want.Len() {
		return fmt.Errorf("%w: %d values in and %d out for %d timesteps, want %v and %v",
			ErrBatch, len(x), len(dst), len(t), shape, want)
	}
	xt, err := m.runner.in.x.images(m.be, shape, x)
	if err != nil {
		return err
	}
	out, err := m.predict(xt, t, labels)
	if err != nil {
		return err
	}
	if err := m.be.Download(dst, out.Buf); err != nil {
		return fmt.Errorf("unet: prediction: %w", err)
	}
	return nil
}

// HostBatch is a batch in host memory, for use outside a training loop.
type HostBatch struct {
	XT, Target []float32 // n images each, in Layout
	Layout     Layout
	T          []int64 // [n]
	Draws      []int64 // [n], where dropout acts
	Labels     []int64 // [n], the classes, of a conditional model
	// Weights [n], where given, weight the samples' squared errors; the loss is then
	// their weighted sum over the number of elements.
	Weights []float64
	Seed    uint64 // of the dropout masks
	Train   bool   // dropout acts
}

// LossAndGradients returns the mean squared error of the model's output against
// the target, over all elements of the batch, and its gradient by diffusers key,
// in PyTorch's layouts.
func (m *Model) LossAndGradients(b HostBatch) (loss float64, grads map[string][]float32, err error) {
	n := len(b.T)
	xShape, yShape := m.shape(n, m.config.InChannels), m.shape(n, m.config.OutChannels)
	if n == 0 || len(b.XT) != xShape.Len() || len(b.Target) != yShape.Len() {
		return 0, nil, fmt.Errorf("%w: %d and %d values for %d timesteps, want %v and %v",
			ErrBatch, len(b.XT), len(b.Target), n, xShape, yShape)
	}
	batch, err := m.upload(b, xShape, yShape)
	if err != nil {
		return 0, nil, err
	}
	count := float64(yShape.Len())
	batch.GradScale = float32(1 / count)
	sum, err := m.LossAndGrad(batch, nil)
	if err != nil {
		return 0, nil, err
	}
	list, err := m.ExportGrads()
	if err != nil {
		return 0, nil, err
	}
	grads = make(map[string][]float32, len(list))
	for _, t := range list {
		grads[t.Name] = t.Data
	}
	return sum / count, grads, nil
}

func (m *Model) upload(b HostBatch, xShape, yShape tensor.Shape) (batch Batch, err error) {
	x, target := b.XT, b.Target
	if b.Layout == NCHW {
		size := m.config.SampleSize
		x, target = make([]float32, len(x)), make([]float32, len(target))
		NCHWToNHWC(x, b.XT, len(b.T), m.config.InChannels, size, size)
		NCHWToNHWC(target, b.Target, len(b.T), m.config.OutChannels, size, size)
	}
	in := &m.runner.in
	batch = Batch{Seed: b.Seed, Train: b.Train}
	if batch.XT, err = in.x.images(m.be, xShape, x); err != nil {
		return batch, err
	}
	if len(b.Weights) > 0 {
		target = slices.Clone(target)
		for i := range target {
			target[i] *= float32(math.Sqrt(b.Weights[i/(len(target)/len(b.Weights))]))
		}
	}
	if batch.Target, err = in.target.images(m.be, yShape, target); err != nil {
		return batch, err
	}
	if batch.T, err = in.ts.integers(m.be, b.T); err != nil {
		return batch, err
	}
	if len(b.Draws) > 0 {
		if batch.Draws, err = in.draws.integers(m.be, b.Draws); err != nil {
			return batch, err
		}
	}
	if m.config.NumClassEmbeds > 0 {
		if batch.Classes, err = m.oneHot(b.Labels, len(b.T)); err != nil {
			return batch, err
		}
	}
	if len(b.Weights) > 0 {
		halves := make([]float32, len(b.Weights))
		for i, w := range b.Weights {
			halves[i] = float32(math.Sqrt(w) / 2)
		}
		batch.Roots, err = in.roots.images(m.be, tensor.Of(len(halves)), halves)
	}
	return batch, err
}

// NCHWToNHWC copies n images from PyTorch's layout to the project's.
func NCHWToNHWC(dst, src []float32, n, channels, height, width int) {
	transpose(dst, src, n, channels, height*width)
}

// NHWCToNCHW undoes NCHWToNHWC.
func NHWCToNCHW(dst, src []float32, n, channels, height, width int) {
	transpose(dst, src, n, height*width, channels)
}

// transpose swaps the two inner dimensions of src [n,rows,columns].
func transpose(dst, src []float32, n, rows, columns int) {
	size := rows * columns
	if len(dst) != n*size || len(src) != n*size {
		panic(fmt.Sprintf("unet: transpose of [%d %d %d] from %d to %d values", n, rows, columns, len(src), len(dst)))
	}
	for i := range n {
		d, s := dst[i*size:(i+1)*size], src[i*size:(i+1)*size]
		for r := range rows {
			for c := range columns {
				d[c*rows+r] = s[r*columns+c]
			}
		}
	}
}

// Export returns the parameters by diffusers key in PyTorch's layouts, in
// registration order.
func (m *Model) Export() ([]nn.Tensor, error) { return m.export(m.params.Values(), "weights") }

// ExportGrads returns the gradients in the same form.
func (m *Model) ExportGrads() ([]nn.Tensor, error) { return m.export(m.params.Grads(), "gradients") }

func (m *Model) export(b tensor.Buffer, what string) ([]nn.Tensor, error) {
	flat := make([]float32, m.params.FlatLen())
	if err := m.be.Download(flat, b); err != nil {
		return nil, fmt.Errorf("unet: %s: %w", what, err)
	}
	return m.params.Unflatten(flat), nil
}
