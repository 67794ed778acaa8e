package nn

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// Kind says how a parameter's layout differs from PyTorch's.
type Kind uint8

// Kinds of parameter.
const (
	Vector Kind = iota // the same in both: [C], or a table [rows,C]
	Linear             // PyTorch [out,in], here [in,out]
	Conv               // PyTorch [out,in,kh,kw], here [kh,kw,in,out]
)

// Alignment is the granularity of offsets in the flat buffers, in elements: 64
// bytes, one cache line.
const Alignment = 16

// Param is one parameter tensor: a range of the flat buffers.
type Param struct {
	Name  string // diffusers key
	Kind  Kind
	Shape []int // PyTorch order: [C], [out,in] or [out,in,kh,kw]
	Off   int   // first element in the flat buffers, a multiple of Alignment
	Len   int   // number of elements
}

// Params is the flat storage of a model's parameters. Layers register while the
// model is made; Alloc then fixes the layout.
type Params struct {
	list   []Param
	flat   int
	values tensor.Buffer
	grads  tensor.Buffer
	views  []leaf
}

// leaf is a parameter's memory under its shape in this project's layout.
type leaf struct{ value, grad tensor.Tensor }

// Add registers a parameter and returns its index in List. Shape is in PyTorch
// order. It panics after Alloc.
func (p *Params) Add(name string, kind Kind, shape ...int) int {
	if p.values != nil {
		panic("nn: parameter " + name + " added after Alloc")
	}
	n := tensor.Of(shape...).Len()
	p.list = append(p.list, Param{Name: name, Kind: kind, Shape: shape, Off: p.flat, Len: n})
	p.flat += (n + Alignment - 1) / Alignment * Alignment
	return len(p.list) - 1
}

// Alloc allocates values and gradients, zeroed, on a backend; the gradients where
// other ranks of the host can read them, if it has such memory.
func (p *Params) Alloc(be tensor.Backend) error {
	if p.values != nil {
		return errors.New("nn: parameters are allocated already")
	}
	values, err := be.Alloc(tensor.F32, p.flat)
	if err != nil {
		return fmt.Errorf("nn: parameters: %w", err)
	}
	alloc := be.Alloc
	if s, ok := be.(tensor.Sharer); ok {
		alloc = s.AllocShared
	}
	grads, err := alloc(tensor.F32, p.flat)
	if err != nil {
		be.Free(values)
		return fmt.Errorf("nn: gradients: %w", err)
	}
	p.values, p.grads = values, grads
	for _, q := range p.list {
		s := q.layout()
		p.views = append(p.views, leaf{
			value: tensor.Tensor{Buf: be.Slice(values, q.Off, q.Len), Shape: s},
			grad:  tensor.Tensor{Buf: be.Slice(grads, q.Off, q.Len), Shape: s},
		})
	}
	return nil
}

// List returns the parameters in registration (forward) order. It must not be
// changed.
func (p *Params) List() []Param { return p.list }

// Count is the number of parameter elements, without padding.
func (p *Params) Count() int {
	n := 0
	for _, q := range p.list {
		n += q.Len
	}
	return n
}

// FlatLen is the length of the flat buffers, with alignment padding, which is
// always zero.
func (p *Params) FlatLen() int { return p.flat }

// Values is the flat buffer of parameters, F32.
func (p *Params) Values() tensor.Buffer { return p.values }

// Grads is the flat buffer of gradients, F32.
func (p *Params) Grads() tensor.Buffer { return p.grads }

// Leaf declares parameter i on a tape.
func (p *Params) Leaf(t *autograd.Tape, i int) *autograd.Value {
	return t.Param(i, p.views[i].value, p.views[i].grad)
}

// LeafAs declares parameter i on a tape under another shape of as many elements.
func (p *Params) LeafAs(t *autograd.Tape, i int, s tensor.Shape) *autograd.Value {
	return t.Param(i, p.views[i].value.View(s), p.views[i].grad.View(s))
}

// Free gives the memory back.
func (p *Params) Free(be tensor.Backend) {
	if p.values != nil {
		be.Free(p.values)
		be.Free(p.grads)
		p.values, p.grads, p.views = nil, nil, nil
	}
}

// layout is the shape of the parameter in this project.
func (q Param) layout() tensor.Shape {
	switch s := q.Shape; q.Kind {
	case Linear:
		return tensor.Of(s[1], s[0])
	case Conv:
		return tensor.Of(s[2], s[3], s[1], s[0])
	case Vector:
	}
	return tensor.Of(q.Shape...)
}

// matrix is the parameter as PyTorch's [out][in][taps].
func (q Param) matrix() (out, in, taps int) {
	switch s := q.Shape; q.Kind {
	case Linear:
		return s[0], s[1], 1
	case Conv:
		return s[0], s[1], s[2] * s[3]
	case Vector:
	}
	return q.Len, 1, 1
}

// ToTorch copies the parameter, or anything laid out like it (a gradient, a
// moment), from this project's layout to PyTorch's; both slices have Len
// elements.
func (q Param) ToTorch(dst, src []float32) {
	q.check(dst, src)
	out, in, taps := q.matrix()
	for tap := range taps {
		for i := range in {
			row := src[(tap*in+i)*out:][:out]
			for o, v := range row {
				dst[(o*in+i)*taps+tap] = v
			}
		}
	}
}

// FromTorch undoes ToTorch.
func (q Param) FromTorch(dst, src []float32) {
	q.check(dst, src)
	out, in, taps := q.matrix()
	for tap := range taps {
		for i := range in {
			row := dst[(tap*in+i)*out:][:out]
			for o := range row {
				row[o] = src[(o*in+i)*taps+tap]
			}
		}
	}
}

func (q Param) check(dst, src []float32) {
	if len(dst) != q.Len || len(src) != q.Len {
		panic(fmt.Sprintf("nn: %s has %d elements, got %d and %d", q.Name, q.Len, len(dst), len(src)))
	}
}
