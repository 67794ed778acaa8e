package tensor

import "fmt"

// Buffer is a run of elements in a backend's memory. Only the backend that
// allocated it looks inside.
type Buffer interface {
	DType() DType
	Len() int
}

// Host is implemented by F32 buffers whose memory the host addresses. The slice
// is the buffer itself, not a copy.
type Host interface {
	Buffer
	Float32s() []float32
}

// Tensor is a buffer seen as a shape. The zero Tensor stands for "absent" where
// an operation has an optional operand.
type Tensor struct {
	Buf   Buffer
	Shape Shape
}

// Present reports whether the tensor has a buffer.
func (t Tensor) Present() bool { return t.Buf != nil }

// View returns the same buffer under another shape of as many elements.
func (t Tensor) View(s Shape) Tensor {
	if s.Len() != t.Shape.Len() {
		panic(fmt.Sprintf("tensor: view of %v as %v", t.Shape, s))
	}
	return Tensor{Buf: t.Buf, Shape: s}
}

// New allocates a zeroed tensor. The error is that of Memory.Alloc.
func New(m Memory, dt DType, s Shape) (Tensor, error) {
	b, err := m.Alloc(dt, s.Len())
	if err != nil {
		return Tensor{}, err
	}
	return Tensor{Buf: b, Shape: s}, nil
}

// Floats is F32 memory of the host as a buffer, for what takes buffers and computes on
// the host. Backends do not take it.
type Floats []float32

var _ Host = Floats(nil)

// DType implements Buffer.
func (Floats) DType() DType { return F32 }

// Len implements Buffer.
func (f Floats) Len() int { return len(f) }

// Float32s implements Host.
func (f Floats) Float32s() []float32 { return f }

// Flat is a whole buffer as a tensor of one dimension.
func Flat(b Buffer) Tensor { return Tensor{Buf: b, Shape: Of(b.Len())} }
