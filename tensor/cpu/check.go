package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// The checks of operands: a failure is a programmer's error and panics.

func foreign(b tensor.Buffer) string { return fmt.Sprintf("cpu: buffer of another backend: %T", b) }

func sameLen(op string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("cpu: %s: lengths %d and %d", op, a, b))
	}
}

// f32 returns the elements of an F32 tensor.
func f32(op string, t tensor.Tensor) []float32 {
	b, ok := t.Buf.(*f32Buffer)
	if !ok {
		panic(notOf(op, tensor.F32, t))
	}
	n := t.Shape.Len()
	if n > len(b.data) {
		panic(fmt.Sprintf("cpu: %s: shape %v on a buffer of %d elements", op, t.Shape, len(b.data)))
	}
	return b.data[:n]
}

// optional returns the elements of an F32 tensor, or nil where it is absent.
func optional(op string, t tensor.Tensor) []float32 {
	if !t.Present() {
		return nil
	}
	return f32(op, t)
}

// i64 returns the elements of an I64 tensor.
func i64(op string, t tensor.Tensor) []int64 {
	b, ok := t.Buf.(*i64Buffer)
	if !ok {
		panic(notOf(op, tensor.I64, t))
	}
	n := t.Shape.Len()
	if n > len(b.data) {
		panic(fmt.Sprintf("cpu: %s: shape %v on a buffer of %d elements", op, t.Shape, len(b.data)))
	}
	return b.data[:n]
}

func notOf(op string, want tensor.DType, t tensor.Tensor) string {
	switch t.Buf.(type) {
	case nil:
		return fmt.Sprintf("cpu: %s: operand of shape %v is absent", op, t.Shape)
	case *f32Buffer, *bf16Buffer, *i64Buffer:
		return fmt.Sprintf("cpu: %s: operand of shape %v is %v, want %v", op, t.Shape, t.Buf.DType(), want)
	}
	return foreign(t.Buf)
}

// same panics unless a and b have one shape.
func same(op string, a, b tensor.Tensor) {
	if a.Shape != b.Shape {
		panic(fmt.Sprintf("cpu: %s: shapes %v and %v", op, a.Shape, b.Shape))
	}
}

// want panics unless t has the shape s.
func want(op, name string, t tensor.Tensor, s tensor.Shape) {
	if t.Shape != s {
		panic(fmt.Sprintf("cpu: %s: %s is %v, want %v", op, name, t.Shape, s))
	}
}

// rank panics unless t has n dimensions.
func rank(op, name string, t tensor.Tensor, n int) {
	if t.Shape.Rank() != n {
		panic(fmt.Sprintf("cpu: %s: %s is %v, want %d dimensions", op, name, t.Shape, n))
	}
}

// samples splits a shape in its first dimension and the rest. A scalar is one
// sample of one element.
func samples(s tensor.Shape) (n, per int) {
	if s.Rank() == 0 {
		return 1, 1
	}
	per = 1
	for i := 1; i < s.Rank(); i++ {
		per *= s.Dim(i)
	}
	return s.Dim(0), per
}

// rows splits a shape in its last dimension and the product of those before.
func rows(s tensor.Shape) (n, width int) {
	if s.Rank() == 0 {
		return 1, 1
	}
	n = 1
	for i := range s.Rank() - 1 {
		n *= s.Dim(i)
	}
	return n, s.Dim(-1)
}
