package optim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// ErrConfig is wrapped by every error of Validate and DefaultConfig.
var ErrConfig = errors.New("optim: bad configuration")

// Config selects an optimizer and its hyperparameters. Start from
// DefaultConfig; a field that the named optimizer does not take must be zero.
// The key of a field, as errors name it, is its name in snake case.
type Config struct {
	Name string // one of Names()
	LR   float64

	// Decay rates of the running averages, 0 <= beta < 1, in the form of the
	// code, not of Adan's paper: m = beta m + (1-beta) g.
	Beta1, Beta2, Beta3 float64
	Eps                 float64 // added to the denominator, > 0 in float32
	WeightDecay         float64 // L, >= 0; decoupled (adan, adamw, acprop, lion) or L2 (adam, rmsprop, sgdm)

	MaxGradNorm float64 // adan: its own clipping, min(1, max/(norm+eps)); 0 is off
	NoProx      bool    // adan: w(1 - h L) - s instead of (w - s)/(1 + h L)
	Momentum    float64 // rmsprop, sgdm: mu >= 0
	Alpha       float64 // rmsprop: decay rate of the squared gradient, 0 <= alpha < 1
	Centered    bool    // rmsprop: divide by the standard deviation
	Dampening   float64 // sgdm: the buffer takes (1 - dampening) g
	Nesterov    bool    // sgdm: look-ahead; needs momentum > 0 and dampening 0
	Rectify     bool    // acprop: RAdam's rectification, SGD with momentum while it is undefined
}

// spec describes one optimizer: its defaults, the keys it takes beside lr and
// weight_decay, and its constructor.
type spec struct {
	defaults Config
	keys     []string
	build    func(Config, core) Optimizer
}

// specs returns the optimizers in the order in which they are listed to people.
func specs() []spec {
	return []spec{
		{
			defaults: Config{Name: "adan", LR: 1e-3, Beta1: 0.98, Beta2: 0.92, Beta3: 0.99, Eps: 1e-8},
			keys:     []string{"beta1", "beta2", "beta3", "eps", "max_grad_norm", "no_prox"},
			build:    newAdan,
		},
		{
			defaults: Config{Name: "adam", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8},
			keys:     []string{"beta1", "beta2", "eps"},
			build:    newAdam,
		},
		{
			defaults: Config{Name: "adamw", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01},
			keys:     []string{"beta1", "beta2", "eps"},
			build:    newAdamW,
		},
		{
			defaults: Config{Name: "rmsprop", LR: 1e-2, Alpha: 0.99, Eps: 1e-8},
			keys:     []string{"alpha", "eps", "momentum", "centered"},
			build:    newRMSprop,
		},
		{
			defaults: Config{Name: "acprop", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-16, Rectify: true},
			keys:     []string{"beta1", "beta2", "eps", "rectify"},
			build:    newACProp,
		},
		{
			defaults: Config{Name: "sgdm", LR: 1e-3, Momentum: 0.9},
			keys:     []string{"momentum", "dampening", "nesterov"},
			build:    newSGDM,
		},
		{
			defaults: Config{Name: "lion", LR: 1e-4, Beta1: 0.9, Beta2: 0.99},
			keys:     []string{"beta1", "beta2"},
			build:    newLion,
		},
	}
}

func lookup(name string) *spec {
	for _, s := range specs() {
		if s.defaults.Name == name {
			return &s
		}
	}
	return nil
}

// Names lists the optimizers.
func Names() []string {
	var names []string
	for _, s := range specs() {
		names = append(names, s.defaults.Name)
	}
	return names
}

// DefaultConfig returns the defaults of the named optimizer's reference
// implementation. (sgdm: PyTorch's SGD with lr 1e-3 and, so that the name holds,
// momentum 0.9 in place of 0.) An unknown name gives an error with the choices.
func DefaultConfig(name string) (Config, error) {
	s := lookup(name)
	if s == nil {
		return Config{}, unknownName(name)
	}
	return s.defaults, nil
}

// Keys lists the hyperparameters that the named optimizer takes, by the keys that
// errors use; nil for an unknown name.
func Keys(name string) []string {
	s := lookup(name)
	if s == nil {
		return nil
	}
	return append([]string{"lr", "weight_decay"}, s.keys...)
}

func unknownName(name string) error {
	return fmt.Errorf("%w: name is %q, want one of %s", ErrConfig, name, strings.Join(Names(), ", "))
}

// field is one numeric key of a Config with its range.
type field struct {
	key   string
	value float64
	ok    bool
	want  string
}

func (c Config) fields() []field {
	beta := func(key string, v float64) field { return field{key, v, v >= 0 && v < 1, "0 <= " + key + " < 1"} }
	nonNegative := func(key string, v float64) field {
		return field{key, v, v >= 0 && !math.IsInf(v, 0), "0 or more"}
	}
	flag := func(key string, on bool) field {
		v := 0.0
		if on {
			v = 1
		}
		return field{key, v, true, ""}
	}
	return []field{
		nonNegative("lr", c.LR),
		nonNegative("weight_decay", c.WeightDecay),
		beta("beta1", c.Beta1),
		beta("beta2", c.Beta2),
		beta("beta3", c.Beta3),
		beta("alpha", c.Alpha),
		{"eps", c.Eps, float32(c.Eps) > 0 && !math.IsInf(c.Eps, 0), "more than 0 in float32 (an element without gradient would be 0/0)"},
		nonNegative("max_grad_norm", c.MaxGradNorm),
		nonNegative("momentum", c.Momentum),
		nonNegative("dampening", c.Dampening),
		flag("no_prox", c.NoProx),
		flag("centered", c.Centered),
		flag("nesterov", c.Nesterov),
		flag("rectify", c.Rectify),
	}
}

// Validate reports every setting that is out of range or that the named
// optimizer does not take, joined, each with its key, its value and the range
// or the choices. All wrap ErrConfig.
func (c Config) Validate() error {
	s := lookup(c.Name)
	if s == nil {
		return unknownName(c.Name)
	}
	takes := Keys(c.Name)
	var errs []error
	for _, f := range c.fields() {
		switch {
		case !slices.Contains(takes, f.key):
			if f.value != 0 {
				errs = append(errs, fmt.Errorf("%w: %s takes no %s, it takes %s", ErrConfig, c.Name, f.key, strings.Join(takes, ", ")))
			}
		case !f.ok:
			errs = append(errs, fmt.Errorf("%w: %s of %s is %v, want %s", ErrConfig, f.key, c.Name, f.value, f.want))
		}
	}
	if c.Nesterov && (c.Momentum <= 0 || c.Dampening != 0) {
		errs = append(errs, fmt.Errorf("%w: nesterov needs momentum above 0 and dampening 0, got momentum %v and dampening %v",
			ErrConfig, c.Momentum, c.Dampening))
	}
	return errors.Join(errs...)
}
