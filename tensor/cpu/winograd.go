package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// winograd is a 3x3 convolution of stride 1 and margin 1 by Winograd's minimal
// filtering F(2x2,3x3) (Lavin and Gray 2016, section 4.1). A tile is a window of
// 4x4 pixels and the 2x2 outputs that it makes; at each of its 16 transformed
// points the channels of all tiles are multiplied with one matrix, 16 products
// for 4 outputs where the direct sum takes 36.
//
// Tiles go by passes, so that the points of a pass are few megabytes. The points
// of a window are differences of its pixels: a NaN or Inf spoils the 2x2 outputs
// of every tile whose window holds it, at most one pixel more on each side than
// the direct sum, and an Inf makes NaN there.
type winograd struct {
	set    kernel.Set
	shape  kernel.Shape
	pad    padding
	ci, co int // summed over; of the result
	h, w   int // of the result
	filter wFilter
	c      []float32
	init   initial
	per    int       // rows of the result that share one of init's
	zeros  []float32 // the bias where there is none

	tw, perImage, tiles int       // tiles in a row, in an image, in all
	block               int       // tiles of an item of the products
	points              []float32 // of the pass: point, tile, channel
	point               int       // from one point to the next
	arow, crow          []int     // of a block
	first, count        int       // tiles of the pass

	colBlocks, panelsPer int
	slots                chan int
	slot                 []float32
}

// wFilter transforms the weight: for each panel of columns and each point, a
// matrix [k, nr]. flip takes it for the gradient of the input: transposed, and
// its taps from last to first.
type wFilter struct {
	dst, src      []float32
	k, n          int
	flip          bool
	point, panel  int // from one to the next, in dst
	panels, parts int
}

// The sizes of Winograd's working memory. None changes a bit of a result.
const (
	points       = 16
	passFloats   = 1 << 20 // of the points of a pass
	blockTiles   = 64      // about how many make one item of the products
	inputTiles   = 16      // make one item of the transform of the input
	filterRows   = 32      // of the weight, make one item of its transform
	pointPadding = 16      // floats that keep the points of a tile in different sets of the cache
)

// minimal says whether a convolution goes by Winograd's filtering, by a fixed
// table: channels enough to pay for the transforms of a tile, and tiles enough
// to pay for that of the weight. It does not look at the number of images: no
// image's result depends on the others of its batch.
//
// Largest error against float64 over the output's rms, for normal operands, of
// the result and of the input's gradient, AVX2 and AVX-512, and that of the
// direct sum. There are fewer additions in a row, so it is smaller.
//
//	8x32x32x128    2.1e-6  5.9e-6
//	8x16x16x256    2.7e-6  7.3e-6
//	16x8x8x256     2.7e-6  6.3e-6
//	32x32x32x32    1.1e-6  2.7e-6
//	32x16x16x64    1.3e-6  3.7e-6
func (g *geometry) minimal() bool {
	return g.Kernel == 3 && g.Stride == 1 && g.PadLo == 1 && g.PadHi == 1 &&
		min(g.ci, g.co) >= 32 && min(g.oh, g.ow) >= 7
}

// newWinograd is the convolution of images of ci channels into c.
func (b *Backend) newWinograd(g *geometry, src, weight, c []float32, ci, co int) winograd {
	shape := b.set.Shape(co)
	mr, nr := shape.Rows, shape.Cols
	// An odd size leaves half of the last tiles outside.
	pad := b.newPadding(src, g.n, g.oh, g.ow, ci, 1, 1+(g.oh|g.ow)&1)
	pad.dst = b.scratch.image.get(pad.size())
	w := winograd{
		set: b.set, shape: shape, pad: pad, ci: ci, co: co, h: g.oh, w: g.ow, c: c,
		tw: (g.ow + 1) / 2, perImage: (g.oh + 1) / 2 * ((g.ow + 1) / 2),
		block: blockTiles / mr * mr,
	}
	w.tiles = g.n * w.perImage
	f := wFilter{src: b.roundedWeight(weight), k: ci, n: co, panels: (co + nr - 1) / nr, parts: (ci + filterRows - 1) / filterRows}
	f.point = ci*nr + pointPadding
	f.panel = points * f.point
	f.dst = b.scratch.panels.get(f.panels * f.panel)
	w.filter = f
	w.count = min(max(1, passFloats/(points*ci*w.block)), (w.tiles+w.block-1)/w.block) * w.block
	w.point = w.count*ci + pointPadding
	w.points = b.scratch.points.get(points * w.point)
	w.arow, w.crow = grow(&b.scratch.arow, w.block), grow(&b.scratch.crow, w.block)
	for i := range w.block {
		w.arow[i], w.crow[i] = i*ci, i*nr
	}
	w.zeros = b.scratch.zeros.get(co)
	w.slots, w.slot = b.slots, b.scratch.slots.get(b.pool.Threads()*w.slotFloats())
	return w
}

// slotFloats is the memory of an item under way: the results of a block at all
// points and four pixels of an unfinished tile, or nine taps of some rows of the
// weight.
func (w *winograd) slotFloats() int {
	return max(points*w.slotPoint()+4*w.shape.Cols, 9*filterRows*w.shape.Cols)
}

func (w *winograd) slotPoint() int { return w.block*w.shape.Cols + pointPadding }

// runWinograd computes the whole convolution.
func (b *Backend) runWinograd(w winograd) {
	b.tasks.winogradPrep.run(b.pool, w.pad.items()+w.filter.panels*w.filter.parts, w)
	pass := w.count
	for ; w.first < w.tiles; w.first += pass {
		w.count = min(pass, w.tiles-w.first)
		b.tasks.winogradInput.run(b.pool, (w.count+inputTiles-1)/inputTiles, w)
		blocks := (w.count + w.block - 1) / w.block
		w.colBlocks = min(w.filter.panels, (wantItems+blocks-1)/blocks)
		w.panelsPer = (w.filter.panels + w.colBlocks - 1) / w.colBlocks
		w.colBlocks = (w.filter.panels + w.panelsPer - 1) / w.panelsPer
		b.tasks.winogradProduct.run(b.pool, blocks*w.colBlocks, w)
	}
}

// winogradPrepItem pads a row of the images, or transforms some rows of a panel
// of the weight.
func winogradPrepItem(w *winograd, i int) {
	pads := w.pad.items()
	if i < pads {
		w.pad.item(i)
		return
	}
	slot := <-w.slots
	w.transformFilter(i-pads, w.slot[slot*w.slotFloats():][:w.slotFloats()])
	w.slots <- slot
}

func (w *winograd) transformFilter(i int, temp []float32) {
	f, nr := &w.filter, w.shape.Cols
	panel, first := i/f.parts, i%f.parts*filterRows
	rows, left := min(filterRows, f.k-first), panel*nr
	cols, tap := min(nr, f.n-left), f.k*f.n
	p := kernel.Patch{
		Src: temp, SrcRow: 3 * filterRows * nr, SrcCol: filterRows * nr, SrcStep: nr,
		Dst: f.dst[panel*f.panel+first*nr:], DstRow: 4 * f.point, DstCol: f.point, DstStep: nr,
		N: rows, Cols: nr,
	}
	if !f.flip && cols == nr {
		p.Src, p.SrcRow, p.SrcCol, p.SrcStep = f.src[first*f.n+left:], 3*tap, tap, f.n
		w.set.WinogradFilter(&p)
		return
	}
	for t := range 9 {
		dst := temp[t*filterRows*nr:][:rows*nr]
		if cols < nr {
			clear(dst)
		}
		if f.flip {
			w.set.Transpose(dst, nr, f.src[(8-t)*tap+left*f.k+first:], f.k, cols, rows)
			continue
		}
		for r := range rows {
			copy(dst[r*nr:][:cols], f.src[t*tap+(first+r)*f.n+left:])
		}
	}
	w.set.WinogradFilter(&p)
}

// run is where tile i is: its image, its row and column, and the number of tiles
// before last or the end of the row.
func (w *winograd) run(i, last int) (n, ty, tx, tiles int) {
	n, i = i/w.perImage, i%w.perImage
	// last counts tiles of all images.
	ty, tx = i/w.tw, i%w.tw
	return n, ty, tx, min(w.tw-tx, last-n*w.perImage-i)
}

// winogradInputItem transforms the windows of some tiles.
func winogradInputItem(w *winograd, i int) {
	row := w.pad.width * w.ci
	p := kernel.Patch{
		Cols: w.ci, SrcRow: row, SrcCol: w.ci, SrcStep: 2 * w.ci,
		DstRow: 4 * w.point, DstCol: w.point, DstStep: w.ci,
	}
	lo := i * inputTiles
	hi := min(lo+inputTiles, w.count)
	for lo < hi {
		n, ty, tx, tiles := w.run(w.first+lo, w.first+hi)
		p.N = tiles
		p.Src = w.pad.dst[(n*w.pad.rows+2*ty)*row+2*tx*w.ci:]
		p.Dst = w.points[lo*w.ci:]
		w.set.WinogradInput(&p)
		lo += tiles
	}
}

// winogradProductItem multiplies a block of tiles with some panels, point by
// point, and makes their outputs.
func winogradProductItem(w *winograd, i int) {
	cb, lo := i%w.colBlocks, i/w.colBlocks*w.block
	hi := min(lo+w.block, w.count)
	slot := <-w.slots
	m := w.slot[slot*w.slotFloats():][:w.slotFloats()]
	mr, nr, point := w.shape.Rows, w.shape.Cols, w.slotPoint()
	tap := [1]int{}
	t := kernel.Tile{Tap: tap[:], K: w.ci, LDB: nr, Cols: nr, Fresh: true}
	for panel := cb * w.panelsPer; panel < min((cb+1)*w.panelsPer, w.filter.panels); panel++ {
		for q := range points {
			t.A = w.points[q*w.point+lo*w.ci:]
			t.B = w.filter.dst[panel*w.filter.panel+q*w.filter.point:]
			t.C = m[q*point:]
			for r := 0; r < hi-lo; r += mr {
				t.Rows = min(mr, hi-lo-r)
				t.ARow, t.CRow = w.arow[r:r+mr], w.crow[r:r+t.Rows]
				w.shape.NN(&t)
			}
		}
		w.outputs(m, lo, hi, panel*nr)
	}
	w.slots <- slot
}

// outputs makes the outputs of tiles [lo, hi) of the pass from column left on.
func (w *winograd) outputs(m []float32, lo, hi, left int) {
	nr, point := w.shape.Cols, w.slotPoint()
	pixels := m[points*point:][:4*nr]
	for at := lo; at < hi; {
		n, ty, tx, tiles := w.run(w.first+at, w.first+hi)
		p := kernel.Patch{
			Src: m[(at-lo)*nr:], SrcRow: 4 * point, SrcCol: point, SrcStep: nr,
			DstRow: w.w * w.co, DstCol: w.co, DstStep: 2 * w.co,
			N: tiles, Cols: min(nr, w.co-left), Bias: w.bias(n)[left:],
		}
		y := ((n*w.h+2*ty)*w.w+2*tx)*w.co + left
		switch {
		case 2*ty+1 == w.h:
			p.N = 0
		case 2*(tx+tiles) > w.w:
			p.N--
		}
		if p.N > 0 {
			p.Dst = w.c[y:]
			if w.init.residual != nil {
				p.Residual = w.init.residual[y:]
			}
			w.set.WinogradOutput(&p)
		}
		for i := p.N; i < tiles; i++ {
			w.corner(p, m[(at-lo+i)*nr:], pixels, 2*ty, 2*(tx+i), y+2*i*w.co)
		}
		at += tiles
	}
}

// corner makes the outputs of a tile that the image ends in: through pixels, as
// some of them have no place in the result.
func (w *winograd) corner(p kernel.Patch, src, pixels []float32, oy, ox, y int) {
	nr := w.shape.Cols
	p.N, p.Src, p.Residual = 1, src, nil
	p.Dst, p.DstRow, p.DstCol = pixels, 2*nr, nr
	w.set.WinogradOutput(&p)
	for i := range 4 {
		if oy+i/2 >= w.h || ox+i%2 >= w.w {
			continue
		}
		at := y + (i/2*w.w+i%2)*w.co
		dst := w.c[at:][:p.Cols]
		if w.init.residual == nil {
			copy(dst, pixels[i*nr:])
		} else {
			w.set.Add(dst, pixels[i*nr:], w.init.residual[at:])
		}
	}
}

// bias is the row that the outputs of image n start from.
func (w *winograd) bias(n int) []float32 {
	if w.init.rows == nil {
		return w.zeros
	}
	return w.init.rows[n*w.h*w.w/w.per*w.co:]
}
