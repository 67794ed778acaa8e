package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// pairedGrad is the gradient of a weight in pairs of pixels. The sum goes over the
// images in their order, by bands: a band's rows of x and of dy become pairs, then
// all tiles of the result add their products. A band stays in the second-level
// cache meanwhile: the tiles read it once for each panel and tap.
type pairedGrad struct {
	columns columnPairs
	dy      packing
	cut     int // items of columns
}

func (a *pairedGrad) items() int {
	a.cut = a.columns.items()
	return a.cut + a.dy.items()
}

func pairedGradItem(a *pairedGrad, i int) {
	if i < a.cut {
		a.columns.item(i)
	} else {
		a.dy.item(i - a.cut)
	}
}

// bandFloats is about how large a band's pairs are: half of a second-level cache of
// 1 MiB. Where a band ends is part of the order of the sum.
const bandFloats = 128 << 10

// band is some rows of the result of a convolution: whole images, or rows of one.
type band struct {
	image, images int
	row, rows     int
}

// columnPairs are images as the gradient of a weight sums over them: for each
// padded row, the pixels that a column kx of the kernel meets one after the other,
// two by two. Tap (ky, kx) is then a shift by rows, and neither the stride nor an
// odd width leaves half a pair. Columns of the kernel that are two pixels of the
// result apart meet the same pairs, one later.
type columnPairs struct {
	dst, src, zeros []float32
	set             kernel.Set
	g               geometry
	band            band
	rows            int // padded ones of a band's image
	phases          int // columns of the kernel that have pairs of their own
	pairs           int // of a row
	pixel           int // from one pair of pixels to the next
}

func (b *Backend) newColumnPairs(g *geometry, src []float32) columnPairs {
	p := columnPairs{
		src: src, zeros: b.scratch.zeros.get(max(g.CI, g.CO)), set: b.products, g: *g,
		phases: g.Kernel, pixel: g.CI,
	}
	if g.OW%2 == 0 { // in an odd row, the last pair ends in a zero for this column only
		p.phases = min(g.Kernel, 2*g.Stride)
	}
	p.pairs = kernel.Pairs(g.OW) + (g.Kernel-1)/p.phases
	if g.CI%conflict == 0 {
		p.pixel = g.CI + apart
	}
	return p
}

// row is the distance from one padded row to the next; phase, from the pairs of one
// column of the kernel to those of the next.
func (p *columnPairs) row() int   { return p.pairs * p.pixel }
func (p *columnPairs) phase() int { return p.band.images * p.rows * p.row() }

// tap is where the pairs of a tap begin.
func (p *columnPairs) tap(ky, kx int) int {
	return kx%p.phases*p.phase() + ky*p.row() + kx/p.phases*p.pixel
}

// items is the number of iterations: one a padded row.
func (p *columnPairs) items() int { return p.band.images * p.rows }

func (p *columnPairs) item(i int) {
	g := &p.g
	y := p.band.row*g.Stride + i%p.rows - g.PadLo
	dst := p.dst[i*p.row():]
	if y < 0 || y >= g.IH {
		for f := range p.phases {
			clear(dst[f*p.phase():][:p.row()])
		}
		return
	}
	src := p.src[((p.band.image+i/p.rows)*g.IH+y)*g.IW*g.CI:][:g.IW*g.CI]
	for f := range p.phases {
		p.line(dst[f*p.phase():][:p.row()], src, f-g.PadLo)
	}
}

// line makes the pairs of a row, the first of which begins at pixel x.
func (p *columnPairs) line(dst, src []float32, x int) {
	g, step := &p.g, 2*p.g.Stride
	whole := p.pairs - g.OW%2 // pairs of two pixels that the sum goes over
	lo := min((max(0, -x)+step-1)/step, whole)
	hi := min(max(lo, (g.IW-g.Stride-x+step-1)/step), whole)
	if lo < hi { // both pixels are in the image
		first := src[(x+lo*step)*g.CI:]
		p.set.PairRows(dst[lo*p.pixel:], first, first[g.Stride*g.CI:], kernel.Lines{
			Rows: hi - lo, Cols: g.CI, Dst: p.pixel, Src: step * g.CI,
		})
	}
	pixel := func(x int) []float32 {
		if x < 0 || x >= g.IW {
			return p.zeros
		}
		return src[x*g.CI:]
	}
	for j := range p.pairs {
		if j >= lo && j < hi {
			continue
		}
		first, second := pixel(x+j*step), p.zeros
		if j < whole {
			second = pixel(x + j*step + g.Stride)
		}
		p.set.PairRows(dst[j*p.pixel:], first, second, kernel.Lines{Rows: 1, Cols: g.CI})
	}
}

// bands returns how many images make a band, or else how many rows of one, for pairs
// of dy that are so many floats a row.
func (p *columnPairs) bands(line int) (images, rows int) {
	g := &p.g
	image := g.OH * (p.phases*g.Stride*p.row() + line)
	if image <= bandFloats {
		return bandFloats / image, g.OH
	}
	cuts := (image + bandFloats - 1) / bandFloats
	return 1, (g.OH + cuts - 1) / cuts
}

// pairedWeightGrad computes dw in pairs: p is the product, without its operands.
func (b *Backend) pairedWeightGrad(p productT, g *geometry, x, dy []float32) {
	nr, width := p.shape.Cols, kernel.Pairs(g.OW)
	cols := b.newColumnPairs(g, x)
	images, rows := cols.bands((g.CO + nr - 1) / nr * nr * width)
	p.seg, p.astep = width, cols.pixel
	for at := (band{images: images, rows: rows}); at.image < g.N; at.next(g) {
		b.pairBand(&p, cols, dy, at)
		items := p.plan()
		b.tasks.productT.run(b.pool, items, p)
		p.keep = true
	}
}

// next is the band behind this one.
func (a *band) next(g *geometry) {
	if a.row += a.rows; a.row >= g.OH {
		a.image, a.row = a.image+a.images, 0
	}
}

// within is the band without what the convolution does not have.
func (a band) within(g *geometry) band {
	a.images, a.rows = min(a.images, g.N-a.image), min(a.rows, g.OH-a.row)
	return a
}

// wholeRows says that the rows of an image end where a pair, or two that are read at once,
// end: no sum goes over the end of a row.
func (b *Backend) wholeRows(width int) bool {
	return width%2 == 0 && (width%4 == 0 || !b.products.Grouped())
}

// pairBand makes the pairs of a band, the operands of p.
func (b *Backend) pairBand(p *productT, cols columnPairs, dy []float32, at band) {
	g := &cols.g
	at = at.within(g)
	cols.band, cols.rows = at, (at.rows-1)*g.Stride+g.Kernel
	cols.dst = b.scratch.image.get(cols.phases * cols.phase())
	taps := grow(&b.scratch.taps, 1)
	height := at.rows * g.OW
	if taps[0] = 0; !b.wholeRows(g.OW) {
		taps, height = grow(&b.scratch.taps, at.rows), g.OW
		for oy := range taps {
			taps[oy] = oy * g.OW * g.CO
		}
	}
	pack := b.newPacking(p.shape.Cols, dy[(at.image*g.OH+at.row)*g.OW*g.CO:], height, g.CO, taps)
	pack.batch, pack.step = at.images, g.OH*g.OW*g.CO
	pack.dst = b.scratch.panels.get(pack.size())
	work := pairedGrad{columns: cols, dy: pack}
	items := work.items()
	b.tasks.pairedGrad.run(b.pool, items, work)

	p.a, p.b = cols.dst, pack.result()
	p.shift = grow(&b.scratch.shift, g.Kernel*g.Kernel)
	for t := range p.shift {
		p.shift[t] = cols.tap(t/g.Kernel, t%g.Kernel)
	}
	count := at.images * at.rows
	p.aseg, p.bseg = grow(&b.scratch.arow, count), grow(&b.scratch.crow, count)
	for i := range count {
		n, oy := i/at.rows, i%at.rows
		p.aseg[i] = (n*cols.rows + oy*g.Stride) * cols.row()
		p.bseg[i] = n*p.b.step + oy*pack.grouped(p.seg)*p.b.ld
	}
}
