package tensor

import (
	"fmt"
	"strings"
)

// MaxRank is the largest number of dimensions of a Shape.
const MaxRank = 4

// Shape is the size of a tensor in up to MaxRank dimensions, outermost first.
// Shapes are comparable with ==. The zero Shape is a scalar of one element.
type Shape struct {
	dims [MaxRank]int
	rank int
}

// Of returns the shape of the given dimensions. It panics on more than MaxRank
// of them or on a negative one.
func Of(dims ...int) Shape {
	if len(dims) > MaxRank {
		panic(fmt.Sprintf("tensor: %d dimensions, at most %d", len(dims), MaxRank))
	}
	s := Shape{rank: len(dims)}
	for i, d := range dims {
		if d < 0 {
			panic(fmt.Sprintf("tensor: negative dimension %d", d))
		}
		s.dims[i] = d
	}
	return s
}

// Rank is the number of dimensions.
func (s Shape) Rank() int { return s.rank }

// Dim returns dimension i; a negative i counts from the end.
func (s Shape) Dim(i int) int {
	if i < 0 {
		i += s.rank
	}
	if i < 0 || i >= s.rank {
		panic(fmt.Sprintf("tensor: dimension %d of %v", i, s))
	}
	return s.dims[i]
}

// Len is the number of elements, the product of the dimensions.
func (s Shape) Len() int {
	n := 1
	for _, d := range s.dims[:s.rank] {
		n *= d
	}
	return n
}

// Dims returns the dimensions as a new slice.
func (s Shape) Dims() []int { return append([]int(nil), s.dims[:s.rank]...) }

// String prints the shape as [2 8 8 32].
func (s Shape) String() string {
	return strings.ReplaceAll(fmt.Sprint(s.dims[:s.rank]), ",", "")
}

// DType is the type of a buffer's elements.
type DType uint8

// Element types.
const (
	F32  DType = iota // IEEE 754 binary32
	BF16              // the upper half of a binary32
	I64               // two's complement 64-bit integer
)

// Size is the number of bytes of one element.
func (d DType) Size() int {
	switch d {
	case F32:
		return 4
	case BF16:
		return 2
	case I64:
		return 8
	}
	panic("tensor: unknown dtype " + d.String())
}

// String names the type as safetensors does.
func (d DType) String() string {
	switch d {
	case F32:
		return "F32"
	case BF16:
		return "BF16"
	case I64:
		return "I64"
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

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
