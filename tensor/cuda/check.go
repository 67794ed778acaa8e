//go:build cuda

package cuda

import (
	"fmt"
	"slices"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// The checks of operands: a failure is a programmer's error and panics.

// checks are those that look at shapes alone.
const checks = shapes.Checks("cuda")

func sameLen(op string, a, b int) { checks.SameLen(op, a, b) }

func same(op string, a, b tensor.Tensor) { checks.Same(op, a, b) }

func want(op, name string, t tensor.Tensor, s tensor.Shape) { checks.Want(op, name, t, s) }

func rank(op, name string, t tensor.Tensor, n int) { checks.Rank(op, name, t, n) }

func foreign(op string, b tensor.Buffer) string {
	return fmt.Sprintf("cuda: %s: buffer of another backend: %T", op, b)
}

// own returns the buffer as this backend's.
func (b *Backend) own(op string, buf tensor.Buffer) *buffer {
	m, ok := buf.(*buffer)
	if !ok || m.be != b {
		panic(foreign(op, buf))
	}
	return m
}

// operand returns the memory of a tensor of one of the types.
func (b *Backend) operand(op string, t tensor.Tensor, types ...tensor.DType) *buffer {
	if !t.Present() {
		panic(fmt.Sprintf("cuda: %s: operand of shape %v is absent", op, t.Shape))
	}
	m := b.own(op, t.Buf)
	if n := t.Shape.Len(); n > m.n {
		panic(fmt.Sprintf("cuda: %s: shape %v on a buffer of %d elements", op, t.Shape, m.n))
	}
	if slices.Contains(types, m.dtype) {
		return m
	}
	// A copy, so that the callers' lists stay on their stacks.
	panic(fmt.Sprintf("cuda: %s: operand of shape %v is %v, want one of %v", op, t.Shape, m.dtype, slices.Clone(types)))
}

// f32 is the address of an F32 tensor.
func (b *Backend) f32(op string, t tensor.Tensor) cu.DevicePtr {
	return b.operand(op, t, tensor.F32).ptr
}

// i64 is the address of an I64 tensor.
func (b *Backend) i64(op string, t tensor.Tensor) cu.DevicePtr {
	return b.operand(op, t, tensor.I64).ptr
}

// values is the address of an activation of the given type.
func (b *Backend) values(op string, t tensor.Tensor, dt tensor.DType) cu.DevicePtr {
	return b.operand(op, t, dt).ptr
}

// activation returns the type of an activation, F32 or BF16, which the other
// operands of the operation share.
func (b *Backend) activation(op string, t tensor.Tensor) tensor.DType {
	return b.operand(op, t, tensor.F32, tensor.BF16).dtype
}
