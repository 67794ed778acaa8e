package agr

import (
	"fmt"

	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// Pass is everything between a complete gradient and the next forward pass: norm,
// clip by global norm, AGR, optimizer, moving average. The passes of this package work
// in host memory; a device with memory of its own has one there (tensor/cuda), with
// the same bits. It is used from one goroutine.
//
// An update has two halves, so that ranks can agree in between on whether it happens:
//
//	stats, err := pass.Measure(u) // reads the gradient, changes nothing
//	... every rank has the same stats; commit or drop ...
//	err = pass.Apply()            // writes parameters, state and average
type Pass interface {
	// Name is the optimizer's name, "adan(agr)" with AGR.
	Name() string
	// Slots lists the optimizer's state in a fixed order; names and order do not
	// depend on where the pass works.
	Slots() []optim.Slot
	// Measure returns the norm of the gradient and what follows from it, once the
	// device has them. It changes no buffer of the update and no slot; an update that
	// was measured may be dropped. The error is the device's.
	Measure(u optim.Update) (optim.Stats, error)
	// Apply applies the update that was measured last, once; the gradient's contents
	// are undefined afterwards. Where Stats.Finite was false it leaves everything as
	// it was. A device may still be at work when it returns: a failure then shows in
	// the next call that waits. It panics where nothing was measured.
	Apply() error
}

// Update is both halves of an update.
func Update(p Pass, u optim.Update) (optim.Stats, error) {
	stats, err := p.Measure(u)
	if err != nil {
		return stats, err
	}
	return stats, p.Apply()
}

// NewPass builds the pass for the optimizer that c names, with AGR as in the
// paper where agr is set, over flatLen elements made of segments (nil: one
// tensor). Adan's own clipping (optim.Config.MaxGradNorm) sees the norm that the
// update's clipping leaves, before AGR. Errors come from optim.Config.Validate,
// optim.CheckSegments, or an AGRDIST_CPU that this machine cannot honour.
func NewPass(c optim.Config, agr bool, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	return NewPassWith(c, choice(agr), segments, flatLen, r)
}

// NewPassWith is NewPass with the variant of AGR; nil is none.
func NewPassWith(c optim.Config, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, o, err := build(c, a, segments, flatLen, r)
	if err != nil {
		return nil, err
	}
	k, err := pickKernels()
	if err != nil {
		return nil, err
	}
	if e, ok := o.(optim.Elementwise); ok {
		return newFused(e, a, ownClipOf(c), segments, flatLen, r, k), nil
	}
	return newUnfused(o, a, ownClipOf(c), segments, flatLen, r), nil
}

// NewUnfusedPass builds the same pass from separate loops: the reference that NewPass
// is tested against.
func NewUnfusedPass(c optim.Config, agr bool, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, o, err := build(c, choice(agr), segments, flatLen, r)
	if err != nil {
		return nil, err
	}
	return newUnfused(o, choice(agr), ownClipOf(c), segments, flatLen, r), nil
}

// Compose builds the unfused pass around any optimizer; a nil Config means no
// AGR. Clipping of the optimizer's own sees what AGR leaves. Errors come from Config.Validate and optim.CheckSegments.
func Compose(o optim.Optimizer, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, err := check(a, segments, flatLen)
	if err != nil {
		return nil, err
	}
	return newUnfused(o, a, ownClip{}, segments, flatLen, r), nil
}

func choice(on bool) *Config {
	if on {
		return &Config{}
	}
	return nil
}

func check(a *Config, segments []optim.Segment, flatLen int) ([]optim.Segment, error) {
	if a != nil {
		if err := a.Validate(); err != nil {
			return nil, err
		}
	}
	if segments == nil {
		segments = optim.Whole(flatLen)
	}
	return segments, optim.CheckSegments(segments, flatLen)
}

func build(c optim.Config, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) ([]optim.Segment, optim.Optimizer, error) {
	segments, err := check(a, segments, flatLen)
	if err != nil {
		return nil, nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	c.MaxGradNorm = 0 // the pass clips: it has the norm
	o, err := optim.New(c, segments, flatLen, r)
	return segments, o, err
}

// ownClip is an optimizer's own clipping, Adan's max_grad_norm. As in the reference
// implementation it measures the gradient before AGR; because AGR commutes with
// scaling, one reading of the gradient is enough for both clippings.
type ownClip struct{ max, eps float64 }

func ownClipOf(c optim.Config) ownClip { return ownClip{c.MaxGradNorm, c.Eps} }

// factor is what a gradient of a norm is multiplied by: the update's clipping to
// maxNorm, and then the optimizer's.
func (o ownClip) factor(norm, maxNorm float64) float64 {
	clip := optim.ClipScale(norm, maxNorm)
	if o.max > 0 {
		clip *= min(1, o.max/(float64(norm*clip)+o.eps))
	}
	return clip
}

func passName(o optim.Optimizer, a *Config) string {
	if a == nil {
		return o.Name()
	}
	return o.Name() + "(agr)"
}

// notMeasured is the panic of an Apply without a Measure before it.
const notMeasured = "agr: Apply of an update that was not measured"

// update is what a pass on the host keeps of an optim.Update between its halves.
type update struct {
	params, grads, ema []float32
	lr, decay          float64
	t                  int64
	movement           *optim.Movement
}

// hostUpdate panics on an update that does not fit a pass over n elements of host
// memory.
func hostUpdate(u *optim.Update, n int) update {
	if u.T < 1 {
		panic(fmt.Sprintf("agr: update number %d, they count from 1", u.T))
	}
	h := update{
		params: floats("parameters", u.Params, n), grads: floats("gradients", u.Grads, n),
		lr: u.LR, decay: u.EMADecay, t: u.T, movement: u.Movement,
	}
	if u.EMA != nil {
		h.ema = floats("averages", u.EMA, n)
	}
	return h
}

func floats(what string, b tensor.Buffer, n int) []float32 {
	h, ok := b.(tensor.Host)
	if !ok {
		panic(fmt.Sprintf("agr: the %s are not in host memory but in a %T", what, b))
	}
	x := h.Float32s()
	optim.CheckLen(what, x, n)
	return x
}
