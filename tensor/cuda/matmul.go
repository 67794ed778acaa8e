//go:build cuda

package cuda

import (
	"fmt"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/tensor"
)

// MatMul is dst = Alpha op(a) op(b) + Beta dst.
func (b *Backend) MatMul(dst, x, y tensor.Tensor, args tensor.MatMulArgs) {
	const op = "MatMul"
	batch, m, n, k := matMulShape(dst.Shape, x.Shape, y.Shape, args)
	to := b.operand(op, dst, tensor.F32, tensor.BF16)
	left, right := b.operand(op, x, tensor.F32, tensor.BF16), b.operand(op, y, tensor.F32, tensor.BF16)
	switch {
	case batch*m*n == 0:
		return
	case k == 0 && args.Beta == 0:
		b.Fill(dst, 0)
		return
	case k == 0:
		b.Scale(dst, dst, args.Beta)
		return
	}
	b.enter()
	defer b.leave()
	p := cublaslt.Problem{
		M: m, N: n, K: k, Batch: batch, TransA: args.TransA, TransB: args.TransB, Compute: b.precision(left, right),
	}
	var r room
	dt := operandType(p.Compute)
	pa, pb := r.operand(left, dt, batch*m*k, true), r.operand(right, dt, batch*k*n, true)
	pc := r.operand(to, tensor.F32, batch*m*n, true)
	plan, ok := b.productPlan(p)
	if !ok {
		return
	}
	scratch := r.bytes(plan.Workspace())
	base, ok := b.scratch(r.size)
	if !ok {
		return
	}
	for _, p := range []*part{&pa, &pb, &pc, &scratch} {
		p.place(base)
	}
	b.load(&pa, left)
	b.load(&pb, right)
	if args.Beta != 0 {
		b.load(&pc, to)
	}
	b.product(plan, args.Alpha, args.Beta, &pa, &pb, &pc, &scratch)
	b.store(to, &pc)
}

// matMulShape checks the shapes and returns the sizes: dst is [m, n], the inner
// dimension k.
func matMulShape(dst, x, y tensor.Shape, args tensor.MatMulArgs) (batch, m, n, k int) {
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
		panic(fmt.Sprintf("cuda: MatMul: %v = %v (transposed %t) x %v (transposed %t)",
			dst, x, args.TransA, y, args.TransB))
	}
	return batch, m, n, k
}
