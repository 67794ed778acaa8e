package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// winogradGrad is the gradient of the weight of such a convolution, by the
// transposed filtering: at each point, the product of the transformed windows of
// the input, transposed, and the transformed tiles of dy; its sum over all tiles
// transformed to taps. The sum goes over the tiles in their order, by passes: a
// pass is transformed, then multiplied and added point by point.
type winogradGrad struct {
	tiling
	set    kernel.Set
	shape  kernel.Shape
	ci, co int
	x, dy  windows
	dw     []float32

	rows, firstRow int       // of tiles, of all images: in a pass, before it
	count          int       // tiles of the pass
	left, right    []float32 // of the pass: point, tile, channel; panel, point, tile, channel
	lrow           int       // from one tile to the next in left
	lpoint, rpoint int       // from one point to the next
	sums           []float32 // point, input channel, output channel
	aseg, bseg     []int
	rowBlocks      int

	partial []float32 // the sum of dy over each row of tiles; nil where not asked for
}

// The sizes of the gradient's work. gradTiles is part of the order of the sum.
const (
	gradTiles = 64 // about how many tiles make a pass
	gradRows  = 4  // row tiles of an item of the products
)

func (b *Backend) newWinogradGrad(g *geometry, dw, x, dy []float32) winogradGrad {
	shape := b.set.Shape(g.co)
	nr := shape.Cols
	w := winogradGrad{
		tiling: newTiling(g.n, g.oh, g.ow), set: b.set, shape: shape, ci: g.ci, co: g.co, dw: dw,
		lrow: g.ci,
	}
	if g.ci%conflict == 0 {
		w.lrow += apart
	}
	zeros := b.scratch.zeros.get(max(window*g.ci, tile*g.co))
	w.x = windows{
		set: b.set, transform: kernel.WinogradInput, src: x, zeros: zeros, h: g.oh, w: g.ow, c: g.ci,
		edge: window, step: tile, off: 1,
	}
	w.dy = windows{
		set: b.set, transform: kernel.WinogradGrad, src: dy, zeros: zeros, h: g.oh, w: g.ow, c: g.co,
		edge: tile, step: tile,
	}
	w.rows = min(max(1, gradTiles/w.tw), max(1, w.tiles/w.tw))
	w.count = w.rows * w.tw
	panels := (g.co + nr - 1) / nr
	w.lpoint, w.rpoint = w.count*w.lrow+pointPadding, w.count*nr+pointPadding
	w.left = b.scratch.points.get(points * w.lpoint)
	w.right = b.scratch.panels.get(panels * points * w.rpoint)
	w.sums = b.scratch.image.get(points * g.ci * g.co)
	w.aseg, w.bseg = grow(&b.scratch.arow, 1), grow(&b.scratch.crow, 1)
	w.aseg[0], w.bseg[0] = 0, 0
	w.rowBlocks = (g.ci + gradRows*shape.Rows - 1) / (gradRows * shape.Rows)
	return w
}

// runWinogradGrad computes the whole gradient, and db, the sum of dy, where it is
// not nil.
func (b *Backend) runWinogradGrad(w winogradGrad, db []float32) {
	if db != nil {
		w.partial = b.scratch.sums.get(w.tiles / w.tw * w.co)
	}
	if w.co%w.shape.Cols > 0 {
		clear(w.right) // what the tiles read past the last column
	}
	all, pass := w.tiles/w.tw, w.rows
	if all == 0 {
		clear(w.sums)
	}
	for ; w.firstRow < all; w.firstRow += pass {
		w.rows = min(pass, all-w.firstRow)
		w.count = w.rows * w.tw
		b.tasks.winogradGradInput.run(b.pool, w.rows, w)
		panels := (w.co + w.shape.Cols - 1) / w.shape.Cols
		b.tasks.winogradGradProduct.run(b.pool, points*panels*w.rowBlocks, w)
	}
	b.tasks.winogradGradFilter.run(b.pool, (w.ci+filterRows-1)/filterRows, w)
	for c := range db {
		var sum float64
		for row := range all {
			sum += float64(w.partial[row*w.co+c])
		}
		db[c] = float32(sum)
	}
}

// winogradGradInputItem transforms a row of tiles of x and dy.
func winogradGradInputItem(w *winogradGrad, i int) {
	row, at := w.firstRow+i, i*w.tw
	n, ty, tx, tiles := w.run(row*w.tw, w.tiles)
	nr := w.shape.Cols
	if w.partial != nil {
		y := ty * tile
		w.set.ColSums(&kernel.Grid{
			X: w.dy.src[(n*w.h+y)*w.w*w.co:], Sum: [2][]float32{w.partial[row*w.co:][:w.co]},
			Rows: min(tile, w.h-y) * w.w, Cols: w.co, LD: w.co,
		})
	}
	w.x.run(kernel.Patch{
		Dst: w.left[at*w.lrow:], Cols: w.ci, DstRow: window * w.lpoint, DstCol: w.lpoint, DstStep: w.lrow,
	}, n, ty, tx, tiles, 0)
	for left := 0; left < w.co; left += nr {
		w.dy.run(kernel.Patch{
			Dst: w.right[left/nr*points*w.rpoint+at*nr:], Cols: min(nr, w.co-left),
			DstRow: window * w.rpoint, DstCol: w.rpoint, DstStep: nr,
		}, n, ty, tx, tiles, left)
	}
}

// winogradGradProductItem adds the products of the pass at one point to some rows
// of one panel.
func winogradGradProductItem(w *winogradGrad, i int) {
	block, i := i%w.rowBlocks, i/w.rowBlocks
	panels := (w.co + w.shape.Cols - 1) / w.shape.Cols
	panel, q := i%panels, i/panels
	mr, nr := w.shape.Rows, w.shape.Cols
	t := kernel.TileT{
		ASeg: w.aseg, BSeg: w.bseg, B: w.right[(panel*points+q)*w.rpoint:],
		P: w.count, AStep: w.lrow, BStep: nr, LDC: w.co,
		Cols: min(nr, w.co-panel*nr), Fresh: w.firstRow == 0,
	}
	for r := block * gradRows * mr; r < min((block+1)*gradRows*mr, w.ci); r += mr {
		t.A = w.left[q*w.lpoint+r:]
		t.C = w.sums[(q*w.ci+r)*w.co+panel*nr:]
		t.Rows = min(mr, w.ci-r)
		w.shape.TN(&t)
	}
}

// winogradGradFilterItem makes the taps of some input channels.
func winogradGradFilterItem(w *winogradGrad, i int) {
	first, tap := i*filterRows, w.ci*w.co
	w.set.Transform(kernel.WinogradFilterGrad, &kernel.Patch{
		Src: w.sums[first*w.co:], SrcRow: window * tap, SrcCol: tap, SrcStep: w.co,
		Dst: w.dw[first*w.co:], DstRow: 3 * tap, DstCol: tap, DstStep: w.co,
		N: min(filterRows, w.ci-first), Cols: w.co,
	})
}
