package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// The checks of operands: a failure is a programmer's error and panics.

// checks are those that look at shapes alone.
const checks = shapes.Checks("cpu")

func sameLen(op string, a, b int) { checks.SameLen(op, a, b) }

func same(op string, a, b tensor.Tensor) { checks.Same(op, a, b) }

func want(op, name string, t tensor.Tensor, s tensor.Shape) { checks.Want(op, name, t, s) }

func rank(op, name string, t tensor.Tensor, n int) { checks.Rank(op, name, t, n) }

func foreign(b tensor.Buffer) string { return fmt.Sprintf("cpu: buffer of another backend: %T", b) }

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
