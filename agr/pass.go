package agr

import (
	"fmt"

	"github.com/agrdist/agrdist/optim"
)

// Pass is everything between a complete gradient and the next forward: finite?
// -> clip by global norm -> AGR -> optimizer -> moving average.
type Pass interface {
	// Name is the optimizer's name, "adan(agr)" with AGR.
	Name() string
	// Slots lists the optimizer's state in a fixed order.
	Slots() []optim.Slot
	// Update applies one update. A gradient with NaN or infinity leaves
	// everything as it was, and Stats.Finite says so. It allocates nothing
	// after the first call.
	Update(u optim.Update) optim.Stats
}

// NewPass builds the pass for the optimizer that c names, with AGR as in the
// paper where agr is set, over flatLen elements made of segments (nil: one
// tensor). It is fused unless the optimizer needs a look at the whole
// transformed gradient (Adan with MaxGradNorm). Errors come from
// optim.Config.Validate, optim.CheckSegments, or an AGRDIST_CPU that this
// machine cannot honour.
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
		return newFused(e, a, segments, flatLen, r, k), nil
	}
	return newUnfused(o, a, segments, flatLen, r), nil
}

// NewUnfusedPass builds the same pass from separate loops: what NewPass is held
// against.
func NewUnfusedPass(c optim.Config, agr bool, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, o, err := build(c, choice(agr), segments, flatLen, r)
	if err != nil {
		return nil, err
	}
	return newUnfused(o, choice(agr), segments, flatLen, r), nil
}

// Compose builds the unfused pass around any optimizer; a nil Config means no
// AGR. Errors come from Config.Validate and optim.CheckSegments.
func Compose(o optim.Optimizer, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, err := check(a, segments, flatLen)
	if err != nil {
		return nil, err
	}
	return newUnfused(o, a, segments, flatLen, r), nil
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
	o, err := optim.New(c, segments, flatLen, r)
	return segments, o, err
}

func passName(o optim.Optimizer, a *Config) string {
	if a == nil {
		return o.Name()
	}
	return o.Name() + "(agr)"
}

// checkUpdate panics on slices that do not fit the pass.
func checkUpdate(u *optim.Update, n int) {
	optim.CheckLen("parameters", u.Params, n)
	optim.CheckLen("gradients", u.Grads, n)
	if u.EMA != nil {
		optim.CheckLen("averages", u.EMA, n)
	}
	if u.T < 1 {
		panic(fmt.Sprintf("agr: update number %d, they count from 1", u.T))
	}
}
