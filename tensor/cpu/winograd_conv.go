package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// winograd is a 3x3 convolution of stride 1 and margin 1 by minimal filtering.
// Tiles go by blocks. A thread takes a block from its windows to its outputs, so
// that the points stay in its own cache; where there are fewer blocks than threads,
// all of them share the windows of a pass, then its products.
//
// The points of a window are differences of its pixels: a NaN or Inf spoils all
// outputs of every tile whose window holds it, and an Inf makes NaN there.
type winograd struct {
	tiling
	set    kernel.Set
	shape  kernel.Shape
	in     windows
	ci, co int // summed over; of the result
	filter wFilter
	c      []float32
	init   initial
	per    int       // rows of the result that share one of init's
	zeros  []float32 // the bias where there is none

	block        int       // tiles of an item of the products
	whole        bool      // a thread takes whole blocks, each a pass of its own
	points       []float32 // of the pass, or of each thread: block, point, tile, channel
	point        int       // from one point to the next
	arow, crow   []int     // of a block
	first, count int       // tiles of the pass

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
	passFloats   = 1 << 18 // of the points of a pass, for each thread
	blockTiles   = 72      // at most, to a tile of rows, make one item of the products
	inputTiles   = 16      // make one item of the transform of the input
	filterRows   = 32      // of the weight, make one item of its transform
	pointPadding = 16      // floats that keep the points of a tile in different sets of the cache
)

// newWinograd is the convolution of images of ci channels into c.
func (b *Backend) newWinograd(g *geometry, src, weight, c []float32, ci, co int) winograd {
	shape := b.set.Shape(co)
	mr, nr := shape.Rows, shape.Cols
	w := winograd{
		tiling: newTiling(g.N, g.OH, g.OW), set: b.set, shape: shape, ci: ci, co: co, c: c,
		zeros: b.scratch.zeros.get(max(co, window*ci)),
	}
	w.in = windows{
		set: b.set, transform: kernel.WinogradInput, src: src, zeros: w.zeros, h: g.OH, w: g.OW, c: ci,
		edge: window, step: tile, off: 1,
	}
	f := wFilter{src: weight, k: ci, n: co, panels: (co + nr - 1) / nr, parts: (ci + filterRows - 1) / filterRows}
	f.point = ci*nr + pointPadding
	f.panel = points * f.point
	f.dst = b.scratch.panels.get(f.panels * f.panel)
	w.filter = f
	// Blocks of about one size, of whole tiles of rows, as many for each thread.
	threads := b.pool.Threads()
	blocks := (w.tiles + blockTiles - 1) / blockTiles
	if w.whole = blocks >= threads; w.whole {
		blocks = (blocks + threads - 1) / threads * threads
	}
	w.block = max(1, (w.tiles+blocks*mr-1)/max(1, blocks*mr)) * mr
	w.point = w.block*ci + pointPadding
	areas := threads
	if !w.whole {
		areas = min(max(1, threads*passFloats/(points*w.point)), blocks)
	}
	w.count = areas * w.block
	w.points = b.scratch.points.get(areas * points * w.point)
	w.arow, w.crow = grow(&b.scratch.arow, w.block), grow(&b.scratch.crow, w.block)
	for i := range w.block {
		w.arow[i], w.crow[i] = i*ci, i*nr
	}
	w.slots, w.slot = b.slots, b.scratch.slots.get(b.pool.Threads()*w.slotFloats())
	return w
}

// slotFloats is the memory of an item under way: the results of a block at all
// points and the pixels of an unfinished tile, or nine taps of some rows of the
// weight.
func (w *winograd) slotFloats() int {
	nr := w.shape.Cols
	return max(points*w.slotPoint()+tile*tile*nr, 9*filterRows*nr)
}

func (w *winograd) slotPoint() int { return w.block*w.shape.Cols + pointPadding }

// runWinograd computes the whole convolution.
func (b *Backend) runWinograd(w winograd) {
	b.tasks.winogradFilter.run(b.pool, w.filter.panels*w.filter.parts, w)
	if w.whole {
		b.tasks.winogradBlock.run(b.pool, (w.tiles+w.block-1)/w.block, w)
		return
	}
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

// winogradFilterItem transforms some rows of a panel of the weight.
func winogradFilterItem(w *winograd, i int) {
	slot := <-w.slots
	w.transformFilter(i, w.slot[slot*w.slotFloats():][:w.slotFloats()])
	w.slots <- slot
}

func (w *winograd) transformFilter(i int, temp []float32) {
	f, nr := &w.filter, w.shape.Cols
	panel, first := i/f.parts, i%f.parts*filterRows
	rows, left := min(filterRows, f.k-first), panel*nr
	cols, tap := min(nr, f.n-left), f.k*f.n
	p := kernel.Patch{
		Src: temp, SrcRow: 3 * filterRows * nr, SrcCol: filterRows * nr, SrcStep: nr,
		Dst: f.dst[panel*f.panel+first*nr:], DstRow: window * f.point, DstCol: f.point, DstStep: nr,
		N: rows, Cols: nr,
	}
	if !f.flip && cols == nr {
		p.Src, p.SrcRow, p.SrcCol, p.SrcStep = f.src[first*f.n+left:], 3*tap, tap, f.n
		w.set.Transform(kernel.WinogradFilter, &p)
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
	w.set.Transform(kernel.WinogradFilter, &p)
}

// winogradBlockItem computes a block from its windows to its outputs.
func winogradBlockItem(w *winograd, i int) {
	slot := <-w.slots
	own := *w
	own.first, own.points = i*w.block, w.points[slot*points*w.point:]
	own.count = min(w.block, w.tiles-own.first)
	own.transform(0, own.count)
	own.multiply(0, 0, w.filter.panels, slot)
	w.slots <- slot
}

// winogradInputItem transforms the windows of some tiles of the pass.
func winogradInputItem(w *winograd, i int) {
	lo := i * inputTiles
	w.transform(lo, min(lo+inputTiles, w.count))
}

// transform makes the points of tiles [lo, hi) of the pass.
func (w *winograd) transform(lo, hi int) {
	p := kernel.Patch{Cols: w.ci, DstRow: window * w.point, DstCol: w.point, DstStep: w.ci}
	for lo < hi {
		block, at := lo/w.block, lo%w.block
		n, ty, tx, tiles := w.run(w.first+lo, w.first+min(hi, (block+1)*w.block))
		p.Dst = w.points[block*points*w.point+at*w.ci:]
		w.in.run(p, n, ty, tx, tiles, 0)
		lo += tiles
	}
}

// winogradProductItem multiplies a block of the pass with some panels.
func winogradProductItem(w *winograd, i int) {
	first := i % w.colBlocks * w.panelsPer
	slot := <-w.slots
	w.multiply(i/w.colBlocks, first, min(first+w.panelsPer, w.filter.panels), slot)
	w.slots <- slot
}

// multiply multiplies a block with panels [first, last), point by point, and makes
// their outputs, in the memory of a slot.
func (w *winograd) multiply(block, first, last, slot int) {
	lo := block * w.block
	hi := min(lo+w.block, w.count)
	m := w.slot[slot*w.slotFloats():][:w.slotFloats()]
	mr, nr, point := w.shape.Rows, w.shape.Cols, w.slotPoint()
	tap := [1]int{}
	t := kernel.Tile{Tap: tap[:], K: w.ci, LDB: nr, Cols: nr, Fresh: true}
	for panel := first; panel < last; panel++ {
		for q := range points {
			t.A = w.points[(block*points+q)*w.point:]
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
}

// outputs makes the outputs of tiles [lo, hi) of the pass from column left on.
func (w *winograd) outputs(m []float32, lo, hi, left int) {
	nr, point := w.shape.Cols, w.slotPoint()
	pixels := m[points*point:][:tile*tile*nr]
	for at := lo; at < hi; {
		n, ty, tx, tiles := w.run(w.first+at, w.first+hi)
		p := kernel.Patch{
			Src: m[(at-lo)*nr:], SrcRow: window * point, SrcCol: point, SrcStep: nr,
			DstRow: w.w * w.co, DstCol: w.co, DstStep: tile * w.co,
			Cols: min(nr, w.co-left), Bias: w.bias(n)[left:],
		}
		oy, ox := tile*ty, tile*tx
		y := ((n*w.h+oy)*w.w+ox)*w.co + left
		if oy+tile <= w.h {
			p.N = min(tiles, (w.w-ox)/tile)
		}
		if p.N > 0 {
			p.Dst = w.c[y:]
			if w.init.residual != nil {
				p.Residual = w.init.residual[y:]
			}
			w.set.Transform(kernel.WinogradOutput, &p)
		}
		for i := p.N; i < tiles; i++ {
			w.corner(p, m[(at-lo+i)*nr:], pixels, oy, ox+tile*i, y+i*p.DstStep)
		}
		at += tiles
	}
}

// corner makes the outputs of a tile that the image ends in: through pixels, as
// some of them have no place in the result.
func (w *winograd) corner(p kernel.Patch, src, pixels []float32, oy, ox, y int) {
	nr := w.shape.Cols
	p.N, p.Src, p.Residual = 1, src, nil
	p.Dst, p.DstRow, p.DstCol = pixels, tile*nr, nr
	w.set.Transform(kernel.WinogradOutput, &p)
	for i := range min(tile, w.h-oy) {
		for j := range min(tile, w.w-ox) {
			at := y + (i*w.w+j)*w.co
			dst, from := w.c[at:][:p.Cols], pixels[(i*tile+j)*nr:]
			if w.init.residual == nil {
				copy(dst, from)
			} else {
				w.set.Add(dst, from, w.init.residual[at:])
			}
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
