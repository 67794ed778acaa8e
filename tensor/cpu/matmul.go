package cpu

import "github.com/agrdist/agrdist/tensor"

// MatMul is dst = Alpha op(a) op(b) + Beta dst.
func (b *Backend) MatMul(dst, x, y tensor.Tensor, args tensor.MatMulArgs) {
	const op = "MatMul"
	batch, m, n, k := checks.MatMul(dst.Shape, x.Shape, y.Shape, args)
	c, a, w := f32(op, dst), f32(op, x), f32(op, y)
	shape, taps := b.products.Shape(n), b.zeroTap()
	if args.Beta != 0 && args.Beta != 1 {
		b.Scale(dst, dst, args.Beta)
	}
	keep := args.Beta != 0
	right := b.newPacking(shape.Cols, w, k, n, taps)
	right.batch, right.step, right.transB, right.alpha = batch, k*n, args.TransB, args.Alpha
	slots := b.form.slots(k)
	if args.TransA {
		left, right := b.transposedOperands(a, right, batch, m, k)
		b.transposedProduct(productT{
			shape: shape, batch: batch, m: m, n: n, a: left, c: c, shift: taps, as: m * slots, cs: m * n,
			astep: m, b: right, keep: keep,
		}, slots)
		return
	}
	prep := b.prepare(right, b.matrix(a, batch*m, k), m)
	arow, crow := b.matrixRows(shape.Rows, m, slots, n)
	p := product{
		shape: shape, batch: batch, m: m, n: n, k: slots, a: prep.pad.dst, c: c, arow: arow, crow: crow, tap: taps,
		as: m * slots, cs: m * n, b: prep.pack.result(), init: initial{keep: keep},
	}
	items := p.plan()
	b.tasks.product.run(b.pool, items, p)
}

// matrix is a row-major A [m, k] as an image to copy, with rows enough for an
// item's work where they divide.
func (b *Backend) matrix(a []float32, m, k int) padding {
	w := 1
	for w < 64 && m%(2*w) == 0 {
		w *= 2
	}
	return b.newPadding(a, 1, m/w, w, k, 0, 0)
}

// transposedOperands returns A [k, m] and B of a transposed product. The product
// reads B by rows of a whole tile's width at any distance: as it lies, if it can.
func (b *Backend) transposedOperands(a []float32, right packing, batch, m, k int) ([]float32, panels) {
	if b.form == paired {
		return b.pairedOperands(a, right, batch, m, k)
	}
	if b.form == asIs && right.straight() {
		return a, right.result()
	}
	prep := b.prepare(right, b.matrix(a, batch*k, m), m)
	return prep.pad.dst, prep.pack.result()
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
