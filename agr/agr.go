package agr

import (
	"errors"
	"fmt"
	"math"

	"github.com/agrdist/agrdist/optim"
)

// ErrConfig is wrapped by the errors of Config.Validate and by a kernel choice
// that cannot be honoured.
var ErrConfig = errors.New("agr: bad configuration")

// Scope is what the L1 norm in the denominator runs over.
type Scope string

// Scopes.
const (
	ScopeTensor Scope = "tensor" // each tensor by itself, the paper's rule
	ScopeGroup  Scope = "group"  // all parameters together, plus 1e-12
)

// Tensors is which tensors AGR applies to. The others keep their gradient.
type Tensors string

// Choices of tensors.
const (
	TensorsAll     Tensors = "all"     // every tensor, as the paper's authors do
	TensorsVectors Tensors = "vectors" // biases and the weights of norms (optim.Segment.Vector)
	TensorsWeights Tensors = "weights" // the others: matrices, convolutions, embeddings
)

// Order is which comes first, the update's clipping or AGR. AGR commutes with scaling:
// what the order changes is the norm that is clipped.
type Order string

// Orders.
const (
	AfterClip  Order = "after_clip"  // the norm of the gradient, as the paper's authors do
	BeforeClip Order = "before_clip" // the norm of what AGR leaves; one more reading of the gradient
)

// Scalars is what happens to tensors of one element.
type Scalars string

// Rules for tensors of one element.
const (
	ScalarZero Scalars = "zero" // the formula's value, exactly 0
	ScalarKeep Scalars = "keep" // the gradient unchanged
)

// groupEps is added to the group's norm in ScopeGroup.
const groupEps = 1e-12

// Config is the variant of AGR. The zero Config is the paper's rule.
type Config struct {
	Scope         Scope   // "" is tensor
	ScalarTensors Scalars // "" is zero
	Tensors       Tensors // "" is all; ScopeGroup sums over these alone
	Order         Order   // "" is after_clip
}

// Validate reports an unknown choice, naming the key and the choices. The error
// wraps ErrConfig.
func (c Config) Validate() error {
	var errs []error
	switch c.Scope {
	case "", ScopeTensor, ScopeGroup:
	default:
		errs = append(errs, fmt.Errorf("%w: scope is %q, want one of %s, %s", ErrConfig, string(c.Scope), ScopeTensor, ScopeGroup))
	}
	switch c.ScalarTensors {
	case "", ScalarZero, ScalarKeep:
	default:
		errs = append(errs, fmt.Errorf("%w: scalar_tensors is %q, want one of %s, %s",
			ErrConfig, string(c.ScalarTensors), ScalarZero, ScalarKeep))
	}
	switch c.Tensors {
	case "", TensorsAll, TensorsVectors, TensorsWeights:
	default:
		errs = append(errs, fmt.Errorf("%w: tensors is %q, want one of %s, %s, %s", ErrConfig, string(c.Tensors), TensorsAll, TensorsVectors, TensorsWeights))
	}
	switch c.Order {
	case "", AfterClip, BeforeClip:
	default:
		errs = append(errs, fmt.Errorf("%w: order is %q, want one of %s, %s", ErrConfig, string(c.Order), AfterClip, BeforeClip))
	}
	return errors.Join(errs...)
}

// Applies reports whether AGR applies to a tensor.
func (c Config) Applies(s optim.Segment) bool {
	switch c.Tensors {
	case TensorsVectors:
		return s.Vector
	case TensorsWeights:
		return !s.Vector
	default:
		return true
	}
}

// Transform is dst = AGR(g) for one tensor (arXiv 2407.16944, equations 4 and
// 5) under the zero Config. len(dst) == len(g); dst may be g, but must not
// overlap it otherwise. The norm is summed in float64 over the blocks of
// optim.Blocks.
func Transform(dst, g []float32) {
	optim.CheckLen("elements of the destination", dst, len(g))
	var l1 float64
	for lo := 0; lo < len(g); lo += optim.BlockSize {
		a, _ := optim.Norms(g[lo:min(lo+optim.BlockSize, len(g))])
		l1 += a
	}
	regularize(dst, g, denominator(l1), 1)
}

// denominator is what |g| is divided by, given the tensor's L1 norm. Infinity
// makes every share 0 and so the transform the identity; a zero tensor takes it
// and stays zero.
func denominator(l1 float64) float32 {
	if l1 == 0 {
		return inf32
	}
	return float32(l1)
}

var inf32 = float32(math.Inf(1))

// denominators fills den, by segment, from the L1 norms by segment.
func (c Config) denominators(den []float32, l1 []float64, segments []optim.Segment) {
	var group float64
	if c.Scope == ScopeGroup {
		for i, v := range l1 {
			if c.Applies(segments[i]) {
				group += v
			}
		}
		group += groupEps
	}
	for i, s := range segments {
		switch {
		case s.Len == 1 && c.ScalarTensors == ScalarKeep, !c.Applies(s):
			den[i] = inf32
		case c.Scope == ScopeGroup:
			den[i] = float32(group)
		default:
			den[i] = denominator(l1[i])
		}
	}
}

// regularize is dst = clip (1 - |g|/den) g, rounded after every operation; an
// infinite den leaves dst = clip g.
func regularize(dst, g []float32, den, clip float32) {
	dst = dst[:len(g)]
	for i, v := range g {
		alpha := abs32(v) / den
		dst[i] = float32(float32((1-alpha)*v) * clip)
	}
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
