package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// winogradGrad is the gradient of the weight of such a convolution, by the
// transposed filtering: at each point, the product of the transformed windows of
// the input, transposed, and the transformed tiles of dy; its sum over all tiles
// transformed to taps. The sum goes over the tiles in their order, by passes: a
// pass is transformed, then multiplied and added point by point.
//
// A thread goes through all passes with a block of input and output channels, at all
// points or at a row of them. It transforms what another thread transforms for another
// block, and reads what it reads for another row, rather than wait for it and fetch
// its points from another core's cache; neither blocks nor rows change a bit.
type winogradGrad struct {
	tiling
	set    kernel.Set
	shape  kernel.Shape
	ci, co int
	x, dy  windows
	dw     []float32

	rows           int       // of tiles, of all images, in a pass
	group          int       // rows of points that a thread takes at a time: one, or all
	ciBlocks       int       // blocks of input channels
	ciPer          int       // input channels of one
	panels         int       // of output channels
	coBlocks       int       // blocks of panels
	panelsPer      int       // panels of one
	left, right    []float32 // of each thread: point, tile, channel; panel, point, tile, channel
	lrow           int       // from one tile to the next in left
	lpoint, rpoint int       // from one point to the next
	sums           []float32 // point, input channel, output channel
	seg            []int     // of a pass, which is one segment
	slots          chan int  // of left and right

	db, partial []float32 // the sum of dy, of each row of tiles too; nil where not asked for
}

// gradTiles is about how many tiles make a pass. It is part of the order of the sum.
const gradTiles = 64

// rowChannels are so many that several threads do better by rows of points: they even
// out, and the transforms that blocks do twice cost more than reading x and dy six
// times. It changes no bit.
const rowChannels = 64

func (b *Backend) newWinogradGrad(g *geometry, dw, x, dy []float32) winogradGrad {
	shape := b.set.Shape(g.CO)
	nr := shape.Cols
	w := winogradGrad{
		tiling: newTiling(g.N, g.OH, g.OW), set: b.set, shape: shape, ci: g.CI, co: g.CO, dw: dw,
		panels: (g.CO + nr - 1) / nr,
	}
	threads, input, grad := b.pool.Threads(), kernel.WinogradInput, kernel.WinogradGrad
	if w.group = window; threads > 1 && min(g.CI, g.CO) >= rowChannels {
		w.group, input, grad = 1, kernel.WinogradInputRow, kernel.WinogradGradRow
		w.cut((threads + 1) / 2) // three of the six rows of points for each thread
	} else {
		w.cut(threads)
	}
	w.lrow = w.ciPer
	if w.ciPer%conflict == 0 {
		w.lrow += apart
	}
	zeros := b.scratch.zeros.get(max(window*g.CI, tile*g.CO))
	w.x = windows{
		set: b.set, transform: input, src: x, zeros: zeros, h: g.OH, w: g.OW, c: g.CI,
		edge: window, step: tile, off: 1,
	}
	w.dy = windows{
		set: b.set, transform: grad, src: dy, zeros: zeros, h: g.OH, w: g.OW, c: g.CO,
		edge: tile, step: tile,
	}
	w.rows = min(max(1, gradTiles/w.tw), max(1, w.tiles/w.tw))
	count := w.rows * w.tw
	w.lpoint, w.rpoint = count*w.lrow+pointPadding, count*nr+pointPadding
	w.left = b.scratch.points.get(threads * w.leftFloats())
	w.right = b.scratch.panels.get(threads * w.rightFloats())
	w.slots = b.slots
	w.sums = b.scratch.image.get(points * g.CI * g.CO)
	w.seg = grow(&b.scratch.arow, 1)
	w.seg[0] = 0
	return w
}

// cut makes so many blocks, or a few less: as square as whole panels and tiles of rows
// allow.
func (w *winogradGrad) cut(blocks int) {
	w.coBlocks = 1
	for w.coBlocks < w.panels && (w.coBlocks+1)*(w.coBlocks+1) <= blocks {
		w.coBlocks++
	}
	w.panelsPer = (w.panels + w.coBlocks - 1) / w.coBlocks
	w.coBlocks = (w.panels + w.panelsPer - 1) / w.panelsPer
	mr := w.shape.Rows
	tiles := (w.ci + mr - 1) / mr
	w.ciBlocks = min(max(1, blocks/w.coBlocks), tiles)
	w.ciPer = (tiles + w.ciBlocks - 1) / w.ciBlocks * mr
	w.ciBlocks = (w.ci + w.ciPer - 1) / w.ciPer
}

func (w *winogradGrad) blocks() int      { return w.ciBlocks * w.coBlocks }
func (w *winogradGrad) leftFloats() int  { return w.group * window * w.lpoint }
func (w *winogradGrad) rightFloats() int { return w.panelsPer * w.group * window * w.rpoint }

// runWinogradGrad computes the whole gradient, and db, the sum of dy, where it is
// not nil.
func (b *Backend) runWinogradGrad(w winogradGrad, db []float32) {
	all := w.tiles / w.tw
	if db != nil {
		w.db, w.partial = db, b.scratch.sums.get(all*w.co)
	}
	if w.co%w.shape.Cols > 0 {
		clear(w.right) // what the tiles read past the last column
	}
	if all == 0 {
		clear(w.sums)
	}
	b.tasks.winogradGradBlock.run(b.pool, window/w.group*w.blocks(), w)
	b.tasks.winogradGradFilter.run(b.pool, w.filterItems()+(len(db)+biasCols-1)/biasCols, w)
}

// gradBlock is a block at a group of rows of points, in the memory of a thread.
type gradBlock struct {
	row         int // the first row of points
	c, ci       int // the first input channel, and how many
	first, last int // panels of output channels
	left, right []float32
}

// winogradGradBlockItem sums a block at a group of rows of points over all passes.
func winogradGradBlockItem(w *winogradGrad, i int) {
	slot := <-w.slots
	groups := window / w.group
	b := gradBlock{row: i % groups, left: w.left[slot*w.leftFloats():], right: w.right[slot*w.rightFloats():]}
	i /= groups
	b.c, b.first = i%w.ciBlocks*w.ciPer, i/w.ciBlocks*w.panelsPer
	b.ci, b.last = min(w.ciPer, w.ci-b.c), min(b.first+w.panelsPer, w.panels)
	all := w.tiles / w.tw
	for first := 0; first < all; first += w.rows {
		rows := min(w.rows, all-first)
		for r := range rows {
			w.transform(&b, first+r, r*w.tw)
		}
		w.multiply(&b, rows*w.tw, first == 0)
	}
	w.slots <- slot
}

// transform makes the points of a row of tiles of x and dy for a block, at tile at of
// the pass.
func (w *winogradGrad) transform(b *gradBlock, row, at int) {
	n, ty, tx, tiles := w.run(row*w.tw, w.tiles)
	w.x.run(kernel.Patch{
		Dst: b.left[at*w.lrow:], Cols: b.ci, Row: b.row,
		DstRow: window * w.lpoint, DstCol: w.lpoint, DstStep: w.lrow,
	}, n, ty, tx, tiles, b.c)
	nr := w.shape.Cols
	for p := b.first; p < b.last; p++ {
		w.dy.run(kernel.Patch{
			Dst: b.right[(p-b.first)*w.group*window*w.rpoint+at*nr:], Cols: min(nr, w.co-p*nr), Row: b.row,
			DstRow: window * w.rpoint, DstCol: w.rpoint, DstStep: nr,
		}, n, ty, tx, tiles, p*nr)
	}
	// The items of the first input channels divide the sums of dy.
	if w.partial != nil && b.c == 0 && row%(window/w.group) == b.row {
		left, y := b.first*nr, ty*tile
		cols := min(b.last*nr, w.co) - left
		w.set.ColSums(&kernel.Grid{
			X: w.dy.src[(n*w.h+y)*w.w*w.co+left:], Sum: [2][]float32{w.partial[row*w.co+left:][:cols]},
			Rows: min(tile, w.h-y) * w.w, Cols: cols, LD: w.co,
		})
	}
}

// multiply adds the products of a pass of count tiles to a block's sums.
func (w *winogradGrad) multiply(b *gradBlock, count int, fresh bool) {
	mr, nr := w.shape.Rows, w.shape.Cols
	t := kernel.TileT{ASeg: w.seg, BSeg: w.seg, P: count, AStep: w.lrow, BStep: nr, LDC: w.co, Fresh: fresh}
	for q := range w.group * window {
		for p := b.first; p < b.last; p++ {
			t.B = b.right[((p-b.first)*w.group*window+q)*w.rpoint:]
			t.Cols = min(nr, w.co-p*nr)
			for r := 0; r < b.ci; r += mr {
				t.A = b.left[q*w.lpoint+r:]
				t.C = w.sums[((b.row*window+q)*w.ci+b.c+r)*w.co+p*nr:]
				t.Rows = min(mr, b.ci-r)
				w.shape.TN(&t)
			}
		}
	}
}

func (w *winogradGrad) filterItems() int { return (w.ci + filterRows - 1) / filterRows }

// winogradGradFilterItem makes the taps of some input channels, or the sum of dy of
// some output channels.
func winogradGradFilterItem(w *winogradGrad, i int) {
	if i >= w.filterItems() {
		w.bias((i - w.filterItems()) * biasCols)
		return
	}
	first, tap := i*filterRows, w.ci*w.co
	w.set.Transform(kernel.WinogradFilterGrad, &kernel.Patch{
		Src: w.sums[first*w.co:], SrcRow: window * tap, SrcCol: tap, SrcStep: w.co,
		Dst: w.dw[first*w.co:], DstRow: 3 * tap, DstCol: tap, DstStep: w.co,
		N: min(filterRows, w.ci-first), Cols: w.co,
	})
}

// biasCols output channels are summed together.
const biasCols = 64

// bias sums dy over the rows of tiles, in their order, for the channels from first on.
func (w *winogradGrad) bias(first int) {
	var sum [biasCols]float64
	db := w.db[first:min(first+biasCols, w.co)]
	for at := first; at < len(w.partial); at += w.co {
		for c, v := range w.partial[at:][:len(db)] {
			sum[c] += float64(v)
		}
	}
	for c := range db {
		db[c] = float32(sum[c])
	}
}
