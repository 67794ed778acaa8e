package shapes

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// Checks makes the checks in the name of a backend, such as "cpu". In all of
// them op is the operation's name in tensor.Backend.
type Checks string

// SameLen panics unless the lengths are equal.
func (c Checks) SameLen(op string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("%s: %s: lengths %d and %d", string(c), op, a, b))
	}
}

// Same panics unless a and b have one shape.
func (c Checks) Same(op string, a, b tensor.Tensor) {
	if a.Shape != b.Shape {
		panic(fmt.Sprintf("%s: %s: shapes %v and %v", string(c), op, a.Shape, b.Shape))
	}
}

// Want panics unless t, the operand of that name, has the shape s.
func (c Checks) Want(op, name string, t tensor.Tensor, s tensor.Shape) {
	if t.Shape != s {
		panic(fmt.Sprintf("%s: %s: %s is %v, want %v", string(c), op, name, t.Shape, s))
	}
}

// Rank panics unless t, the operand of that name, has n dimensions.
func (c Checks) Rank(op, name string, t tensor.Tensor, n int) {
	if t.Shape.Rank() != n {
		panic(fmt.Sprintf("%s: %s: %s is %v, want %d dimensions", string(c), op, name, t.Shape, n))
	}
}

// MatMul panics unless the operands of tensor.GEMM fit, and returns the sizes:
// op(x) is [m, k], op(y) [k, n] and dst [m, n], each batch times; batch is 1 for
// matrices.
func (c Checks) MatMul(dst, x, y tensor.Shape, args tensor.MatMulArgs) (batch, m, n, k int) {
	r := dst.Rank()
	ok := (r == 2 || r == 3) && x.Rank() == r && y.Rank() == r
	if ok {
		batch = 1
		if r == 3 {
			batch = dst.Dim(0)
			ok = x.Dim(0) == batch && y.Dim(0) == batch
		}
		m, k = x.Dim(-2), x.Dim(-1)
		if args.TransA {
			m, k = k, m
		}
		rows := y.Dim(-2)
		n = y.Dim(-1)
		if args.TransB {
			rows, n = n, rows
		}
		ok = ok && k == rows && dst.Dim(-2) == m && dst.Dim(-1) == n
	}
	if !ok {
		panic(fmt.Sprintf("%s: MatMul: %v = %v (transposed %t) x %v (transposed %t)",
			string(c), dst, x, args.TransA, y, args.TransB))
	}
	return batch, m, n, k
}

// Samples splits a shape in its first dimension and the rest. A scalar is one
// sample of one element.
func Samples(s tensor.Shape) (n, per int) {
	if s.Rank() == 0 {
		return 1, 1
	}
	per = 1
	for i := 1; i < s.Rank(); i++ {
		per *= s.Dim(i)
	}
	return s.Dim(0), per
}

// Rows splits a shape in its last dimension and the product of those before. A
// scalar is one row of one element.
func Rows(s tensor.Shape) (n, width int) {
	if s.Rank() == 0 {
		return 1, 1
	}
	n = 1
	for i := range s.Rank() - 1 {
		n *= s.Dim(i)
	}
	return n, s.Dim(-1)
}
