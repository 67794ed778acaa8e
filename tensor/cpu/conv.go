package cpu

import (
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// geometry is a convolution's sizes: x [N,IH,IW,CI], y [N,OH,OW,CO].
type geometry = shapes.Geometry

// Conv2D is y = conv(x, w) + bias [+ e[n,:]] [+ residual]: a product of the
// padded images, nine taps of ci values, with the weight as it lies; or minimal
// filtering (winograd).
func (b *Backend) Conv2D(y, x, w, bias, perSample, residual tensor.Tensor, c tensor.Conv) {
	const op = "Conv2D"
	g := checks.Conv(op, x, w, y, c)
	if bias.Present() {
		want(op, "bias", bias, tensor.Of(g.CO))
	}
	if perSample.Present() {
		want(op, "perSample", perSample, tensor.Of(g.N, g.CO))
	}
	if residual.Present() {
		same(op, residual, y)
	}
	init := initial{residual: optional(op, residual)}
	var per int
	init.rows, per = b.convBias(&g, optional(op, bias), optional(op, perSample))
	if b.filters(&g, g.CI) {
		src, weight := b.filtered(f32(op, x), f32(op, w))
		w := b.newWinograd(&g, src, weight, f32(op, y), g.CI, g.CO)
		w.init, w.per = init, per
		b.runWinograd(w)
		return
	}
	pad := b.newPadding(f32(op, x), g.N, g.IH, g.IW, g.CI, g.PadLo, g.PadHi)
	tap, taps := b.convTaps(&g, &pad)
	shape := b.products.Shape(g.CO)
	prep := b.prepare(b.newPacking(shape.Cols, f32(op, w), g.CI, g.CO, taps), pad, g.N*g.OH*g.OW)
	p := product{
		shape: shape, batch: 1, m: g.N * g.OH * g.OW, n: g.CO, k: pad.pixel,
		a: prep.pad.dst, c: f32(op, y), tap: tap, b: prep.pack.result(), init: init,
	}
	p.arow, p.crow = grow(&b.scratch.arow, p.m+shape.Rows), grow(&b.scratch.crow, p.m)
	r := 0
	for n := range g.N {
		for oy := range g.OH {
			at := (n*pad.rows + oy*g.Stride) * pad.width
			for ox := range g.OW {
				p.arow[r], p.crow[r] = (at+ox*g.Stride)*pad.pixel, r*g.CO
				r++
			}
		}
	}
	clear(p.arow[p.m:])
	if init.rows != nil {
		p.init.irow = grow(&b.scratch.irow, p.m)
		for r := range p.init.irow {
			p.init.irow[r] = r / per * g.CO
		}
	}
	items := p.plan()
	b.tasks.product.run(b.pool, items, p)
}

// convTaps returns, for each tap, its offset in a padded image and that of its
// matrix in the weight.
func (b *Backend) convTaps(g *geometry, pad *padding) (image, weight []int) {
	n := g.Kernel * g.Kernel
	image, weight = grow(&b.scratch.shift, n), grow(&b.scratch.taps, n)
	for t := range n {
		image[t], weight[t] = (t/g.Kernel*pad.width+t%g.Kernel)*pad.pixel, t*g.CI*g.CO
	}
	return image, weight
}

// prepare packs B for a number of rows of A, and pads. The results lie in
// scratch, or, for what needs neither, where it was.
func (b *Backend) prepare(pack packing, pad padding, rows int) prepArgs {
	if pack.src != nil && !pack.direct(rows) {
		pack.dst = b.scratch.panels.get(pack.size())
	}
	if pad.none() {
		pad.dst = pad.src
	} else {
		pad.dst = b.scratch.image.get(pad.size())
	}
	prep := prepArgs{pack: pack, pad: pad}
	items := prep.items()
	b.tasks.prep.run(b.pool, items, prep)
	return prep
}

// convBias returns the rows that the outputs start from, and how many outputs
// share one: all, those of a sample, or none where there is no bias.
func (b *Backend) convBias(g *geometry, bias, perSample []float32) (rows []float32, per int) {
	switch {
	case perSample == nil && bias == nil:
		return nil, 0
	case perSample == nil:
		return bias, g.N * g.OH * g.OW
	case bias == nil:
		return perSample, g.OH * g.OW
	}
	rows = b.scratch.bias.get(g.N * g.CO)
	for n := range g.N {
		b.set.Add(rows[n*g.CO:][:g.CO], perSample[n*g.CO:], bias)
	}
	return rows, g.OH * g.OW
}
