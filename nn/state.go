package nn

import (
	"errors"
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/nn/weights"
)

// Errors of Flatten.
var (
	ErrMissing = errors.New("nn: tensor is missing")
	ErrUnknown = errors.New("nn: no parameter of this name")
	ErrTwice   = errors.New("nn: tensor given twice")
	ErrShape   = errors.New("nn: shape differs")
)

// Tensor is a named tensor on the host in PyTorch's layout, as a model file holds
// it.
type Tensor = weights.Tensor

// Unflatten cuts a flat host array in this project's layout (parameters,
// gradients, an average, a moment) into tensors in PyTorch's, in registration
// order.
func (p *Params) Unflatten(flat []float32) []Tensor {
	list := make([]Tensor, len(p.list))
	for i, q := range p.list {
		list[i] = Tensor{Name: q.Name, Shape: slices.Clone(q.Shape), Data: make([]float32, q.Len)}
		q.ToTorch(list[i].Data, flat[q.Off:q.Off+q.Len])
	}
	return list
}

// Flatten undoes Unflatten: every parameter must be there exactly once, under its
// shape, in any order. rename, which may be nil, maps a foreign name to a
// parameter's. The errors wrap ErrMissing, ErrUnknown, ErrTwice or ErrShape and
// name the tensor; all faults are reported, and flat is written only where there
// are none.
func (p *Params) Flatten(flat []float32, tensors []Tensor, rename func(string) string) error {
	index := make(map[string]int, len(p.list))
	for i, q := range p.list {
		index[q.Name] = i
	}
	source := make([]*Tensor, len(p.list))
	var faults []error
	for k := range tensors {
		t := &tensors[k]
		name := t.Name
		if rename != nil {
			name = rename(name)
		}
		i, ok := index[name]
		switch {
		case !ok:
			faults = append(faults, fmt.Errorf("%w: %q", ErrUnknown, t.Name))
		case source[i] != nil:
			faults = append(faults, fmt.Errorf("%w: %q and %q", ErrTwice, source[i].Name, t.Name))
		case !p.list[i].accepts(t.Shape) || len(t.Data) != p.list[i].Len:
			faults = append(faults, fmt.Errorf("%w: %q is %v with %d values, the model has %v",
				ErrShape, t.Name, t.Shape, len(t.Data), p.list[i].Shape))
			source[i] = t
		default:
			source[i] = t
		}
	}
	for i, t := range source {
		if t == nil {
			faults = append(faults, fmt.Errorf("%w: %q", ErrMissing, p.list[i].Name))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for i, q := range p.list {
		q.FromTorch(flat[q.Off:q.Off+q.Len], source[i].Data)
	}
	return nil
}

// accepts reports whether a tensor of the shape fits: the parameter's own, with
// any number of trailing ones (a 1x1 convolution stored for a linear layer).
func (q Param) accepts(shape []int) bool {
	if len(shape) < len(q.Shape) || !slices.Equal(shape[:len(q.Shape)], q.Shape) {
		return false
	}
	return !slices.ContainsFunc(shape[len(q.Shape):], func(n int) bool { return n != 1 })
}
