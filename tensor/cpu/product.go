package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// product is a batch of matrix products C = A B + initial on kernel.NN. Row r of
// the result begins at c[crow[r]]; its row of A, under tap t, at
// a[arow[r]+tap[t]].
type product struct {
	shape      kernel.Shape
	batch      int
	m, n, k    int // k is the inner dimension of one tap
	a, c       []float32
	arow, crow []int // m entries, and arow a full tile's more
	tap        []int
	as, cs     int // from one product of the batch to the next
	b          panels
	init       initial

	rowBlocks, colBlocks int
	rowsPer, panelsPer   int
}

// panels is B cut in panels of the shape's columns: row k of panel p of product s
// begins at data[s*step + p*panel + k*ld].
type panels struct {
	data            []float32
	ld, panel, step int
}

// initial is what is added to the sum.
type initial struct {
	keep     bool      // C itself
	rows     []float32 // a row, for each run of per rows of the result
	irow     []int     // where the row of each row of the result begins in rows
	residual []float32 // laid out as the result
}

// Work items: about blockRows rows of the result, and so many columns that there
// are wantItems of them. Neither changes a bit of the result.
const (
	blockRows = 128
	wantItems = 32
)

// plan cuts the product in items and returns their number.
func (p *product) plan() int {
	mr, nr := p.shape.Rows, p.shape.Cols
	p.rowsPer = (blockRows + mr - 1) / mr * mr
	p.rowBlocks = (p.m + p.rowsPer - 1) / p.rowsPer
	all := (p.n + nr - 1) / nr
	items := p.batch * p.rowBlocks
	if items == 0 || all == 0 {
		return 0
	}
	p.colBlocks = min(all, (wantItems+items-1)/items)
	p.panelsPer = (all + p.colBlocks - 1) / p.colBlocks
	p.colBlocks = (all + p.panelsPer - 1) / p.panelsPer
	return items * p.colBlocks
}

// item computes one block of the result: column panels outside, so that a panel
// of B stays in the cache over the rows of the block.
func (p *product) item(i int) {
	cb, i := i%p.colBlocks, i/p.colBlocks
	rb, s := i%p.rowBlocks, i/p.rowBlocks
	mr, nr := p.shape.Rows, p.shape.Cols
	lo, hi := rb*p.rowsPer, min((rb+1)*p.rowsPer, p.m)
	first, last := cb*p.panelsPer, min((cb+1)*p.panelsPer, (p.n+nr-1)/nr)
	t := kernel.Tile{A: p.a[s*p.as:], Tap: p.tap, K: p.k, LDB: p.b.ld, Fresh: !p.init.keep}
	for panel := first; panel < last; panel++ {
		t.B = p.b.data[s*p.b.step+panel*p.b.panel:]
		t.C = p.c[s*p.cs+panel*nr:]
		t.Cols = min(nr, p.n-panel*nr)
		if p.init.rows != nil {
			t.Init = p.init.rows[panel*nr:]
		}
		if p.init.residual != nil {
			t.Residual = p.init.residual[s*p.cs+panel*nr:]
		}
		for r := lo; r < hi; r += mr {
			t.Rows = min(mr, hi-r)
			t.ARow, t.CRow = p.arow[r:r+mr], p.crow[r:r+t.Rows]
			if t.Init != nil {
				t.IRow = p.init.irow[r : r+t.Rows]
			}
			p.shape.NN(&t)
		}
	}
}

// productT is a batch of C = init + A^T B on kernel.TN: the sum runs over
// segments of seg rows. Several outputs share A and B under different offsets of
// A (the taps of a convolution): output t uses shift[t] and begins at c[t*ct].
type productT struct {
	shape          kernel.Shape
	batch          int
	m, n           int // of one output
	a, c           []float32
	aseg, bseg     []int
	seg            int
	astep          int
	shift          []int
	ct             int
	as, cs         int
	b              panels
	keep           bool // adds to C
	panels, blocks int  // of columns, and of rows of all outputs
	tiles, block   int  // row tiles of all outputs, which alternate; of an item
}

// The row tiles of a productT's item, and the fewest that still share enough of
// what they read. The upper number is twice the taps of a 3x3 convolution, whose
// two tiles of eight channels share their cache lines.
const rowTiles, fewRowTiles = 18, 4

// segmentRows is about how many rows the tiles of an item sum before the next
// tile's turn, so that those rows stay in the cache.
const segmentRows = 256

// plan cuts the products in items and returns their number.
func (p *productT) plan() int {
	mr, nr := p.shape.Rows, p.shape.Cols
	p.panels = (p.n + nr - 1) / nr
	p.tiles = (p.m + mr - 1) / mr * len(p.shift)
	p.block = min(max(p.batch*p.panels*p.tiles/wantItems, fewRowTiles), rowTiles)
	p.blocks = (p.tiles + p.block - 1) / p.block
	return p.batch * p.panels * p.blocks
}

// item computes some row tiles of one column panel.
func (p *productT) item(i int) {
	block, i := i%p.blocks, i/p.blocks
	panel, s := i%p.panels, i/p.panels
	mr, nr := p.shape.Rows, p.shape.Cols
	first, last := block*p.block, min((block+1)*p.block, p.tiles)
	cols := min(nr, p.n-panel*nr)
	t := kernel.TileT{
		B: p.b.data[s*p.b.step+panel*p.b.panel:],
		P: p.seg, AStep: p.astep, BStep: p.b.ld, LDC: p.n, Cols: cols,
	}
	group := max(1, segmentRows/max(1, p.seg))
	for lo := 0; lo == 0 || lo < len(p.aseg); lo += group { // once even for an empty sum
		hi := min(lo+group, len(p.aseg))
		t.ASeg, t.BSeg = p.aseg[lo:hi], p.bseg[lo:hi]
		t.Fresh = lo == 0 && !p.keep
		for tile := first; tile < last; tile++ {
			t.C, t.Rows = p.at(s, panel, tile)
			t.A = p.a[s*p.as+p.shift[tile%len(p.shift)]+tile/len(p.shift)*mr:]
			p.shape.TN(&t)
		}
	}
}

// at is where a tile of the result begins, and its number of rows.
func (p *productT) at(s, panel, tile int) (c []float32, rows int) {
	mr, nr := p.shape.Rows, p.shape.Cols
	i := tile / len(p.shift) * mr
	return p.c[s*p.cs+tile%len(p.shift)*p.ct+i*p.n+panel*nr:], min(mr, p.m-i)
}

func productItem(p *product, i int)   { p.item(i) }
func productTItem(p *productT, i int) { p.item(i) }
