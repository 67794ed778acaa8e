package classifier

import (
	"errors"
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor"
)

// groups of every GroupNorm.
const groups = 8

// batch is how many images are classified at once: always as many, so that an
// image's result does not depend on its neighbours.
const batch = 64

// Classifier is the network with its weights.
type Classifier struct {
	config Config
	be     tensor.Backend
	params *nn.Params
	arena  *autograd.Arena

	convs []*nn.Conv2D
	norms []*nn.GroupNorm
	dense *nn.LinearLayer
	head  *nn.LinearLayer

	forward  *pass
	identity Identity
}

// pass is the network recorded for a number of images.
type pass struct {
	*autograd.Program
	n                int
	images           tensor.Tensor
	x                *autograd.Value
	features, logits *autograd.Value
	host             []float32 // images, the last ones of a short batch zero

	target *autograd.Value // a pass that trains
	to     tensor.Tensor
}

// New makes a network with zero weights on a backend; Init, Load or Train fills
// them.
func New(be tensor.Backend, c Config) (*Classifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Widths = slices.Clone(c.Widths)
	k := &Classifier{config: c, be: be, params: &nn.Params{}, arena: autograd.NewArena(be)}
	now, side := c.Channels, c.Size
	for i, width := range c.Widths {
		conv := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
		if i > 0 {
			conv.Stride = 2
		}
		k.convs = append(k.convs, nn.NewConv2D(k.params, fmt.Sprintf("conv.%d", i), now, width, conv))
		k.norms = append(k.norms, nn.NewGroupNorm(k.params, fmt.Sprintf("norm.%d", i), width, groups, 1e-5))
		now, side = width, conv.OutSize(side)
	}
	k.dense = nn.NewLinear(k.params, "dense", now*side*side, c.Features)
	k.head = nn.NewLinear(k.params, "head", c.Features, c.Classes)
	if err := k.params.Alloc(be); err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	return k, nil
}

// Config is the configuration of New.
func (k *Classifier) Config() Config { return k.config }

// Init fills the weights from the configuration's seed.
func (k *Classifier) Init() {
	flat := make([]float32, k.params.FlatLen())
	for i, p := range k.params.List() {
		dst := flat[p.Off : p.Off+p.Len]
		if p.Kind != nn.Vector {
			torch := make([]float32, p.Len)
			p.XavierUniform(torch, 1, k.config.Seed, i)
			p.FromTorch(dst, torch)
		} else if p.Name[:4] == "norm" && p.Name[len(p.Name)-6:] == "weight" {
			for j := range dst {
				dst[j] = 1
			}
		}
	}
	k.be.Upload(k.params.Values(), flat)
}

// record records the network for n images; with train, for gradients of
// |logits - target|^2.
func (k *Classifier) record(n int, train bool) (*pass, error) {
	c := k.config
	t := autograd.NewTape(k.be, autograd.Config{Train: train})
	p := &pass{n: n, x: t.Input(tensor.F32, tensor.Of(n, c.Size, c.Size, c.Channels)), host: make([]float32, n*c.ImageLen())}
	h := p.x
	for i, conv := range k.convs {
		h = k.norms[i].SiLU(t, conv.Forward(t, h, nil, nil), autograd.Dropout{})
	}
	h = t.View(h, tensor.Of(n, h.Shape().Len()/n))
	p.features = t.SiLU(k.dense.Forward(t, h))
	p.logits = k.head.Forward(t, p.features)
	t.Keep(p.logits)
	if train {
		p.target = t.Input(tensor.F32, tensor.Of(n, c.Classes))
		t.Keep(t.MSE(p.logits, p.target))
	} else {
		t.Keep(p.features)
	}
	var err error
	if p.Program, err = t.Compile(k.arena); err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	if p.images, err = k.alloc(p.x.Shape()); err != nil {
		return nil, err
	}
	p.Bind(p.x, p.images)
	if train {
		if p.to, err = k.alloc(p.target.Shape()); err != nil {
			return nil, err
		}
		p.Bind(p.target, p.to)
	}
	return p, nil
}

func (k *Classifier) alloc(s tensor.Shape) (tensor.Tensor, error) {
	b, err := k.be.Alloc(tensor.F32, s.Len())
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("classifier: %w", err)
	}
	return tensor.Tensor{Buf: b, Shape: s}, nil
}

// Classify computes the features [n, Features] and the logits [n, Classes] of n
// images [n, Size, Size, Channels] with values in about [-1, 1]. Either result may
// be nil.
func (k *Classifier) Classify(features, logits, images []float32) error {
	c := k.config
	n := len(images) / c.ImageLen()
	if len(images)%c.ImageLen() != 0 || features != nil && len(features) != n*c.Features || logits != nil && len(logits) != n*c.Classes {
		panic(fmt.Sprintf("classifier: %d features and %d logits for %d values of images of %d", len(features), len(logits), len(images), c.ImageLen()))
	}
	if k.forward == nil {
		var err error
		if k.forward, err = k.record(batch, false); err != nil {
			return err
		}
	}
	p := k.forward
	all := make([]float32, batch*max(c.Features, c.Classes))
	for lo := 0; lo < n; lo += batch {
		hi := min(lo+batch, n)
		clear(p.host[copy(p.host, images[lo*c.ImageLen():hi*c.ImageLen()]):])
		k.be.Upload(p.images.Buf, p.host)
		if err := p.Run(autograd.Step{}); err != nil {
			return fmt.Errorf("classifier: %w", err)
		}
		take := func(dst []float32, v *autograd.Value, width int) error {
			if dst == nil {
				return nil
			}
			err := k.be.Download(all[:batch*width], v.Tensor().Buf)
			copy(dst[lo*width:hi*width], all)
			return err
		}
		if err := errors.Join(take(features, p.features, c.Features), take(logits, p.logits, c.Classes)); err != nil {
			return fmt.Errorf("classifier: %w", err)
		}
	}
	return nil
}
