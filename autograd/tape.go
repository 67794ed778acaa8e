package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Config says what a tape is recorded for.
type Config struct {
	// Train records for gradients: parameters receive them, and Compile appends
	// the backward pass.
	Train bool
	// StoreAll keeps the cheap values for the backward pass instead of computing
	// them again: the same bits in a little less time and about twice the
	// memory.
	StoreAll bool
}

// Tape records operations. It is used by one goroutine, once: record, Compile,
// drop. Shape mismatches are a programmer's error and panic.
type Tape struct {
	be     tensor.Backend
	config Config
	nodes  []*node
	params []*Value
	inputs []*Value
	keep   []*Value
}

// NewTape starts a recording for a backend.
func NewTape(be tensor.Backend, c Config) *Tape {
	return &Tape{be: be, config: c}
}

// Input declares a value that the caller binds before each Run.
func (t *Tape) Input(dt tensor.DType, shape tensor.Shape) *Value {
	v := &Value{shape: shape, dtype: dt, store: &storage{elems: shape.Len(), dtype: dt, external: true}}
	t.inputs = append(t.inputs, v)
	return v
}

// Param declares a parameter: value is its memory, grad receives its gradient,
// overwritten at every Run, and index, which identifies it, is what Step.Ready
// gets. grad is not used on a tape that does not train. Using one parameter more
// than once is allowed, under the same or another shape; so is not using it (the
// gradient is zero).
func (t *Tape) Param(index int, value, grad tensor.Tensor) *Value {
	for _, v := range t.params {
		if v.param.index == index {
			return t.View(v, value.Shape)
		}
	}
	v := &Value{
		shape: value.Shape, dtype: value.Buf.DType(), t: value,
		store:     &storage{elems: value.Shape.Len(), external: true},
		param:     &param{index: index, grad: grad},
		needsGrad: t.config.Train,
	}
	t.params = append(t.params, v)
	return v
}

// View shows a value's memory under another shape of as many elements.
func (t *Tape) View(x *Value, shape tensor.Shape) *Value {
	if shape.Len() != x.shape.Len() {
		panic(fmt.Sprintf("autograd: view of %v as %v", x.shape, shape))
	}
	return &Value{shape: shape, dtype: x.dtype, store: x.store, viewOf: x, needsGrad: x.needsGrad}
}

// Keep makes the value readable after Run.
func (t *Tape) Keep(v *Value) {
	v.store.pinned = true
	t.keep = append(t.keep, v)
}

// result makes the F32 value that an operation will write.
func result(shape tensor.Shape) *Value { return resultAs(tensor.F32, shape) }

func resultAs(dt tensor.DType, shape tensor.Shape) *Value {
	return &Value{shape: shape, dtype: dt, store: &storage{elems: shape.Len(), dtype: dt, first: -1, last: -1}}
}

// activations is the type in which convolutions store what they compute.
func (t *Tape) activations() tensor.DType {
	if m, ok := t.be.(tensor.Mixed); ok {
		return m.Activations()
	}
	return tensor.F32
}

// record appends an operation and returns its first result.
func (t *Tape) record(n *node) *Value {
	needsGrad := n.root
	for _, v := range n.in {
		needsGrad = needsGrad || v != nil && v.needsGrad
	}
	for _, v := range n.out {
		v.producer, v.needsGrad = n, needsGrad
	}
	t.nodes = append(t.nodes, n)
	return n.out[0]
}

// Step is what changes from one Run to the next besides the inputs.
type Step struct {
	// Seed selects the dropout masks.
	Seed uint64
	// GradScale is d(total loss)/d(sum of squared errors), the factor of MSE.
	GradScale float32
	// Ready, if set, is called with a parameter's index as soon as all operations
	// that write its gradient were called. On a backend that computes later than
	// it is called, the gradient is there after Sync, or in stream order.
	Ready func(index int)
}
