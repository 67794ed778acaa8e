package optim

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// ErrSegments is wrapped by the errors of a segment list that does not fit its
// flat buffer.
var ErrSegments = errors.New("optim: bad segments")

// Segment is one tensor in the flat buffers: elements [Off, Off+Len). Gaps
// between segments are padding, which no optimizer reads or writes.
type Segment struct {
	Name     string
	Off, Len int
	Vector   bool // one dimension: a bias, or the weight of a norm
}

// Whole is the segment list of n elements that are one tensor.
func Whole(n int) []Segment { return []Segment{{Name: "params", Len: n}} }

// Slot is one named vector of optimizer state, F32, laid out like the parameters.
// Data is the state itself, not a copy: writing it restores a checkpoint.
type Slot struct {
	Name string
	Data tensor.Buffer
}

// Float32s is the state itself, nil where it lies on a device that the host does not
// address.
func (s Slot) Float32s() []float32 {
	if h, ok := s.Data.(tensor.Host); ok {
		return h.Float32s()
	}
	return nil
}

// Runner runs f(i) once for each i in [0, n), on any goroutine, and returns
// when all are done; a parallel.Pool is one. A nil Runner means serial. The
// result of nothing here depends on the Runner.
type Runner interface {
	Threads() int
	Run(n int, f func(i int))
}

// Optimizer turns gradients into parameters. It is used from one goroutine.
type Optimizer interface {
	// Name is the optimizer's name, as in Config.Name.
	Name() string
	// Slots lists the state in a fixed order.
	Slots() []Slot
	// Step applies update number t (counted from 1: at t = 1 there is no
	// history) with learning rate lr. Both slices have the length given to the
	// constructor. The contents of grads afterwards are undefined: the
	// optimizers of this package leave it alone, wrappers may transform it in
	// place. Step does not look for NaN; that is the caller's (or a
	// agr.Pass's) part.
	Step(params, grads []float32, lr float64, t int64)
}

// Elementwise is implemented by optimizers in which an element's update needs
// only that element, so that a caller may put its own work on the gradient and
// on the result into the same pass over memory. Step(p, g, lr, t) is
// Begin(lr, t) and then Apply on every block.
type Elementwise interface {
	Optimizer
	// Begin computes the scalars of update t.
	Begin(lr float64, t int64)
	// Apply updates elements [off, off+len(params)) of the flat vector, whose
	// parameters and gradients are given; len(grads) == len(params). Calls on
	// disjoint ranges may run at the same time.
	Apply(params, grads []float32, off int)
}

// New builds the optimizer that c names for parameters of flatLen elements made
// of segments (nil: all elements are one tensor), with zero state. Errors come
// from Config.Validate or wrap ErrSegments.
func New(c Config, segments []Segment, flatLen int, r Runner) (Optimizer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if segments == nil {
		segments = Whole(flatLen)
	}
	if err := CheckSegments(segments, flatLen); err != nil {
		return nil, err
	}
	return lookup(c.Name).build(c, newCore(c.Name, segments, flatLen, r)), nil
}

// CheckSegments verifies that segments ascend, do not overlap and lie in a flat
// buffer of flatLen elements.
func CheckSegments(segments []Segment, flatLen int) error {
	end := 0
	for i, s := range segments {
		switch {
		case s.Off < 0 || s.Len < 0:
			return fmt.Errorf("%w: %q (number %d) has offset %d and length %d", ErrSegments, s.Name, i, s.Off, s.Len)
		case s.Off < end:
			return fmt.Errorf("%w: %q (number %d) starts at %d, inside or before its predecessor, which ends at %d",
				ErrSegments, s.Name, i, s.Off, end)
		case s.Len > flatLen-s.Off:
			return fmt.Errorf("%w: %q (number %d) covers elements %d to %d of a buffer of %d",
				ErrSegments, s.Name, i, s.Off, s.Off+s.Len, flatLen)
		}
		end = s.Off + s.Len
	}
	return nil
}
