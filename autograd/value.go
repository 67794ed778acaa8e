package autograd

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Value is one tensor of a recorded computation: an input, a parameter or the
// result of an operation. It is written once.
type Value struct {
	shape tensor.Shape
	dtype tensor.DType
	store *storage
	// producer is the operation that writes the value; nil for inputs,
	// parameters and views.
	producer *node
	// viewOf is the value whose memory this one shows under another shape.
	viewOf *Value
	param  *param
	// needsGrad says that a parameter lies upstream.
	needsGrad bool
	// t is the memory, known once the program is bound.
	t tensor.Tensor
}

// Shape is the shape of the value, known as soon as it is recorded.
func (v *Value) Shape() tensor.Shape { return v.shape }

// Tensor is the memory of the value. It is valid after Compile for values that
// Tape.Keep named, and for inputs after Bind; its content is that of the last
// Run. Growing the arena for another program moves it, so fetch it again after
// every Run.
func (v *Value) Tensor() tensor.Tensor { return v.t }

// base is the value that owns the memory.
func (v *Value) base() *Value {
	for v.viewOf != nil {
		v = v.viewOf
	}
	return v
}

// param is a leaf that receives a gradient.
type param struct {
	index int
	grad  tensor.Tensor
}

// storage is the memory of a value and its views. Intermediate storage lives in
// the arena from its first to its last use.
type storage struct {
	elems int
	dtype tensor.DType
	// external memory (inputs, parameters, gradients) is not planned.
	external bool
	// pinned memory is not reused before the program ends.
	pinned bool
	// first and last are positions in the program; first is -1 before the
	// planner has met the storage.
	first, last int
	// takes is the storage whose memory this one takes over in place.
	takes *storage
	off   int
}

func (s *storage) root() *storage {
	for s.takes != nil {
		s = s.takes
	}
	return s
}

// node is an operation: a kernel and its operands. Optional operands that are
// absent are nil.
type node struct {
	name   string
	kernel kernel
	in     []*Value
	out    []*Value
	// inPlace lists the operands whose memory out[0] may take over.
	inPlace []int
	// cheap says that out[0] is computed again in the backward pass rather than
	// kept. Further results (moments, say) are always kept.
	cheap bool
	// backward emits the operations of the gradient; nil where there is none.
	backward func(b *backward, n *node)
	// anyType says that out[0] may be of another type than its operands.
	anyType bool
	// root marks a loss, where gradients start.
	root bool
	// ready lists the parameters whose gradient is final after this operation.
	ready []int
}

// kernel calls the backend. It captures the attributes of the operation
// (strides, epsilon) but no values, so that it can run again on others.
type kernel func(be tensor.Backend, s *Step, out, in []*Value)

// opt is the tensor of an optional operand.
func opt(v *Value) tensor.Tensor {
	if v == nil {
		return tensor.Tensor{}
	}
	return v.t
}

func (n *node) String() string {
	if len(n.out) == 0 {
		return n.name
	}
	return fmt.Sprintf("%s %v", n.name, n.out[0].shape)
}
