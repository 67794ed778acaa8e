package inception

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Network computes features on one backend, for a fixed number of images at once. It is
// used by one goroutine.
type Network struct {
	be      tensor.Backend
	batch   int
	weights map[string]loaded
	fc      tensor.Tensor
	pool    []tensor.Buffer // free memory for activations
	images  []float32
}

type loaded struct {
	layer
	w, bias tensor.Tensor
	host    []float32 // the bias
}

// ErrNoHost is returned for a backend whose memory the host does not address.
var ErrNoHost = errors.New("inception: it runs on processors only")

// New loads the weights to a backend. batch images are computed at once; about 40 MB of
// memory each.
func New(be tensor.Backend, w *Weights, batch int) (*Network, error) {
	n := &Network{be: be, batch: batch, weights: map[string]loaded{}, images: make([]float32, batch*side*side*3)}
	for name, f := range w.convs {
		l := loaded{layer: f.layer, host: f.bias}
		var err error
		if l.w, err = n.upload(f.w, tensor.Of(f.kh, f.kw, f.in, f.out)); err != nil {
			return nil, err
		}
		if l.bias, err = n.upload(f.bias, tensor.Of(f.out)); err != nil {
			return nil, err
		}
		n.weights[name] = l
	}
	var err error
	n.fc, err = n.upload(w.fc, tensor.Of(Classes, Features))
	return n, err
}

func (n *Network) upload(v []float32, s tensor.Shape) (tensor.Tensor, error) {
	b, err := n.be.Alloc(tensor.F32, len(v))
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("inception: %w", err)
	}
	if _, ok := b.(tensor.Host); !ok {
		return tensor.Tensor{}, ErrNoHost
	}
	n.be.Upload(b, v)
	return tensor.Tensor{Buf: b, Shape: s}, nil
}

// Extract computes the features [count, Features] and the logits [count, Classes] of
// images [count, height, width, channels] with values in [-1, 1]; one channel stands
// for three.
func (n *Network) Extract(features, logits, images []float32, height, width, channels int) error {
	each := height * width * channels
	count := len(images) / each
	if len(images)%each != 0 || len(features) != count*Features || len(logits) != count*Classes {
		panic(fmt.Sprintf("inception: %d features and %d logits for %d values of images of %d", len(features), len(logits), len(images), each))
	}
	f, l := make([]float32, n.batch*Features), make([]float32, n.batch*Classes)
	for lo := 0; lo < count; lo += n.batch {
		hi := min(lo+n.batch, count)
		for i := range n.batch { // always as many; the last ones again where there are fewer
			at := min(lo+i, hi-1)
			resize(n.images[i*side*side*3:][:side*side*3], images[at*each:][:each], height, width, channels)
		}
		if err := n.forward(f, l); err != nil {
			return err
		}
		copy(features[lo*Features:hi*Features], f)
		copy(logits[lo*Classes:hi*Classes], l)
	}
	return nil
}

// forward runs the network on n.images.
func (n *Network) forward(features, logits []float32) error {
	p := &pass{n: n}
	x := p.input()
	for _, name := range []string{"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"} {
		x = p.replace(x, p.conv(name, x))
	}
	x = p.replace(x, p.maxPool(x, 2, 0))
	for _, name := range []string{"Conv2d_3b_1x1", "Conv2d_4a_3x3"} {
		x = p.replace(x, p.conv(name, x))
	}
	x = p.replace(x, p.maxPool(x, 2, 0))
	for _, name := range []string{"Mixed_5b", "Mixed_5c", "Mixed_5d"} {
		x = p.replace(x, p.blockA(name, x))
	}
	x = p.replace(x, p.blockB("Mixed_6a", x))
	for _, name := range []string{"Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"} {
		x = p.replace(x, p.blockC(name, x))
	}
	x = p.replace(x, p.blockD("Mixed_7a", x))
	x = p.replace(x, p.blockE("Mixed_7b", x, p.averaged))
	x = p.replace(x, p.blockE("Mixed_7c", x, func(name string, x value) value { return p.pooled(name, p.maxPool(x, 1, 1)) }))
	pooled := p.mean(x)
	p.free(x)
	out := p.alloc(1, 1, Classes)
	if p.err != nil {
		return p.err
	}
	n.be.MatMul(out.flat(n.batch), pooled.flat(n.batch), n.fc, tensor.MatMulArgs{TransB: true, Alpha: 1})
	copy(features, pooled.data)
	copy(logits, out.data)
	p.free(pooled)
	p.free(out)
	return n.be.Sync()
}
