package cpu

import (
	"github.com/agrdist/agrdist/tensor"
)

// Conv2DInputGrad is dx of conv for dy. With stride s the pixels of dx fall in
// s*s classes by their coordinates modulo s; each class is a convolution of dy
// with stride 1 under the taps that reach it, the weight transposed. It too may go
// by minimal filtering (winograd).
func (b *Backend) Conv2DInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DInputGrad"
	g := checks.Conv(op, dx, w, dy, c)
	if b.filters(&g, g.CO) {
		src, weight := b.filtered(f32(op, dy), f32(op, w))
		w := b.newWinograd(&g, src, weight, f32(op, dx), g.CO, g.CI)
		w.filter.flip = true
		b.runWinograd(w)
		return
	}
	// Output coordinate o of tap k and input i is (i + PadLo - k) / Stride; the
	// margins hold those outside of dy.
	lo := max(0, (g.Kernel-1-g.PadLo+g.Stride-1)/g.Stride)
	hi := max(0, (g.IH-1+g.PadLo)/g.Stride-(g.OH-1), (g.IW-1+g.PadLo)/g.Stride-(g.OW-1))
	pad := b.newPadding(f32(op, dy), g.N, g.OH, g.OW, g.CO, lo, hi)
	pad = b.prepare(packing{}, pad, 0).pad
	for py := range g.Stride {
		for px := range g.Stride {
			b.inputGradClass(f32(op, dx), f32(op, w), &g, &pad, py, px)
		}
	}
}

// inputGradClass computes the pixels of dx with iy+PadLo = py and ix+PadLo = px
// modulo the stride.
func (b *Backend) inputGradClass(dx, w []float32, g *geometry, pad *padding, py, px int) {
	image, weight := grow(&b.scratch.shift, 9)[:0], grow(&b.scratch.taps, 9)[:0]
	for ky := py; ky < g.Kernel; ky += g.Stride {
		for kx := px; kx < g.Kernel; kx += g.Stride {
			image = append(image, -((ky-py)/g.Stride*pad.width+(kx-px)/g.Stride)*pad.pixel)
			weight = append(weight, (ky*g.Kernel+kx)*g.CI*g.CO)
		}
	}
	shape := b.products.Shape(g.CI)
	pack := b.newPacking(shape.Cols, w, g.CO, g.CI, weight)
	pack.transB = true
	prep := b.prepare(pack, padding{}, g.N*g.IH*g.IW)
	p := product{shape: shape, batch: 1, n: g.CI, k: pad.pixel, a: pad.dst, c: dx, tap: image, b: prep.pack.result()}
	most := g.N * g.IH * g.IW
	p.arow, p.crow = grow(&b.scratch.arow, most+shape.Rows), grow(&b.scratch.crow, most)
	for n := range g.N {
		for iy := classStart(py, g); iy < g.IH; iy += g.Stride {
			oy := (iy+g.PadLo-py)/g.Stride + pad.lo
			for ix := classStart(px, g); ix < g.IW; ix += g.Stride {
				ox := (ix+g.PadLo-px)/g.Stride + pad.lo
				p.arow[p.m] = ((n*pad.rows+oy)*pad.width + ox) * pad.pixel
				p.crow[p.m] = ((n*g.IH+iy)*g.IW + ix) * g.CI
				p.m++
			}
		}
	}
	for i := range shape.Rows {
		p.arow[p.m+i] = p.arow[0]
	}
	items := p.plan()
	b.tasks.product.run(b.pool, items, p)
}

// classStart is the first coordinate i >= 0 with i + PadLo = class modulo the
// stride.
func classStart(class int, g *geometry) int {
	return ((class-g.PadLo)%g.Stride + g.Stride) % g.Stride
}

// Rows of A a multiple of conflict floats apart fall in few sets of the first
// cache: apart more keep them out of each other's way.
const conflict, apart = 64, 16

// Conv2DWeightGrad is dw of conv for dy, and db = the sum of dy: for each tap a
// product of the shifted padded images, transposed, with dy. The sum runs over
// samples and rows in their order.
func (b *Backend) Conv2DWeightGrad(dw, db, x, dy tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DWeightGrad"
	g := checks.Conv(op, x, dw, dy, c)
	if db.Present() {
		want(op, "db", db, tensor.Of(g.CO))
	}
	filters := b.filters(&g, g.OH*g.OW)
	sum := optional(op, db)
	if sum != nil && (!filters || b.form != asIs) { // or else it sums dy on its way
		b.SumChannels(db, dy)
		sum = nil
	}
	if filters {
		left, right := b.filtered(f32(op, x), f32(op, dy))
		b.runWinogradGrad(b.newWinogradGrad(&g, f32(op, dw), left, right), sum)
		return
	}
	shape := b.products.Shape(g.CO)
	p := productT{shape: shape, batch: 1, m: g.CI, n: g.CO, c: f32(op, dw), ct: g.CI * g.CO}
	if g.N*g.OH*g.OW*g.CI*g.CO == 0 {
		clear(p.c)
		return
	}
	if b.form == paired {
		b.pairedWeightGrad(p, &g, f32(op, x), f32(op, dy))
		return
	}
	b.plainWeightGrad(&p, &g, f32(op, x), f32(op, dy))
	items := p.plan()
	b.tasks.productT.run(b.pool, items, p)
}

// plainWeightGrad is the operands of the gradient of a weight in float32.
func (b *Backend) plainWeightGrad(p *productT, g *geometry, x, dy []float32) {
	pack := b.newPacking(p.shape.Cols, dy, g.OH*g.OW, g.CO, b.zeroTap())
	pack.batch, pack.step = g.N, g.OH*g.OW*g.CO
	p.b = pack.result()
	pad := b.newPadding(x, g.N, g.IH, g.IW, g.CI, g.PadLo, g.PadHi)
	if !pad.none() && g.CI%conflict == 0 {
		pad.pixel = g.CI + apart
	}
	if g.CO > p.shape.Cols || b.form != asIs {
		prep := b.prepare(pack, pad, g.CI*g.Kernel*g.Kernel)
		pad, p.b = prep.pad, prep.pack.result()
	} else {
		pad = b.prepare(packing{}, pad, 0).pad
	}
	p.a, p.seg, p.astep = pad.dst, g.OW, g.Stride*pad.pixel
	p.shift = grow(&b.scratch.shift, g.Kernel*g.Kernel)
	for t := range p.shift {
		p.shift[t] = (t/g.Kernel*pad.width + t%g.Kernel) * pad.pixel
	}
	b.rowSegments(p, g, pad.rows, pad.width*pad.pixel)
}

// rowSegments are the rows of dy, and those of x that they meet: images of so many
// padded rows, each of so many elements.
func (b *Backend) rowSegments(p *productT, g *geometry, rows, row int) {
	p.aseg, p.bseg = grow(&b.scratch.arow, g.N*g.OH), grow(&b.scratch.crow, g.N*g.OH)
	for i := range p.aseg {
		n, oy := i/g.OH, i%g.OH
		p.aseg[i] = (n*rows + oy*g.Stride) * row
		p.bseg[i] = n*p.b.step + oy*p.seg*p.b.ld
	}
}
