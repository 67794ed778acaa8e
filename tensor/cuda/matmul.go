//go:build cuda

package cuda

import (
	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/tensor"
)

// MatMul is dst = Alpha op(a) op(b) + Beta dst.
func (b *Backend) MatMul(dst, x, y tensor.Tensor, args tensor.MatMulArgs) {
	const op = "MatMul"
	batch, m, n, k := checks.MatMul(dst.Shape, x.Shape, y.Shape, args)
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
	p.Narrow = narrow(p.Compute, to)
	var r room
	dt := operandType(p.Compute)
	pa, pb := r.operand(left, dt, batch*m*k, true), r.operand(right, dt, batch*k*n, true)
	pc := r.operand(to, productType(p), batch*m*n, true)
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
