package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// MatMul is dst = Alpha op(a) op(b) + Beta dst.
func (b *Backend) MatMul(dst, x, y tensor.Tensor, args tensor.MatMulArgs) {
	const op = "MatMul"
	batch, m, n, k := matMulShape(dst.Shape, x.Shape, y.Shape, args)
	c, a, w := f32(op, dst), f32(op, x), f32(op, y)
	shape, taps := b.set.Shape(n), b.zeroTap()
	right := b.operand(shape, w, batch, m, n, k, args)
	if args.Beta != 0 && args.Beta != 1 {
		b.Scale(dst, dst, args.Beta)
	}
	keep := args.Beta != 0
	if args.TransA {
		b.transposedProduct(productT{
			shape: shape, batch: batch, m: m, n: n, a: a, c: c, shift: taps, as: m * k, cs: m * n,
			astep: m, b: right, keep: keep,
		}, k)
		return
	}
	arow, crow := b.matrixRows(shape.Rows, m, k, n)
	p := product{
		shape: shape, batch: batch, m: m, n: n, k: k, a: a, c: c, arow: arow, crow: crow, tap: taps,
		as: m * k, cs: m * n, b: right, init: initial{keep: keep},
	}
	items := p.plan()
	b.tasks.product.run(b.pool, items, p)
}

// operand returns B of a matrix product in panels. The transposed product reads
// it by rows of a whole tile's width at any distance: as it lies, if it can.
func (b *Backend) operand(shape kernel.Shape, w []float32, batch, m, n, k int, args tensor.MatMulArgs) panels {
	p := newPacking(b.set, shape, w, k, n, b.scratch.taps)
	p.batch, p.step, p.transB, p.alpha = batch, k*n, args.TransB, args.Alpha
	if p.direct(m) || args.TransA && !args.TransB && args.Alpha == 1 {
		return p.result()
	}
	p.dst = b.scratch.panels.get(p.size())
	prep := prepArgs{pack: p}
	items := prep.items()
	b.tasks.prep.run(b.pool, items, prep)
	return p.result()
}

// zeroTap is the taps of a plain matrix: one, at its beginning.
func (b *Backend) zeroTap() []int {
	taps := grow(&b.scratch.taps, 1)
	taps[0] = 0
	return taps
}

// matrixRows returns the row offsets of a row-major A [m, k] and C [m, n].
func (b *Backend) matrixRows(mr, m, k, n int) (arow, crow []int) {
	arow, crow = grow(&b.scratch.arow, m+mr), grow(&b.scratch.crow, m)
	for i := range crow {
		arow[i], crow[i] = i*k, i*n
	}
	clear(arow[m:])
	return arow, crow
}

// transposedProduct runs C = A^T B over k contiguous rows, cut in segments.
func (b *Backend) transposedProduct(p productT, k int) {
	// The segments are of one length; the rest of k is a second sum.
	full := k / segmentRows
	p.aseg, p.bseg = grow(&b.scratch.arow, full), grow(&b.scratch.crow, full)
	for i := range full {
		p.aseg[i], p.bseg[i] = i*segmentRows*p.astep, i*segmentRows*p.b.ld
	}
	p.seg = segmentRows
	if full > 0 || k == 0 {
		items := p.plan()
		b.tasks.productT.run(b.pool, items, p)
		p.keep = true
	}
	if rest := k % segmentRows; rest > 0 {
		p.aseg, p.bseg = grow(&b.scratch.arow, 1), grow(&b.scratch.crow, 1)
		p.aseg[0], p.bseg[0], p.seg = full*segmentRows*p.astep, full*segmentRows*p.b.ld, rest
		items := p.plan()
		b.tasks.productT.run(b.pool, items, p)
	}
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
		panic(fmt.Sprintf("cpu: MatMul: %v = %v (transposed %t) x %v (transposed %t)",
			dst, x, args.TransA, y, args.TransB))
	}
	return batch, m, n, k
}
