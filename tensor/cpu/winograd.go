package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// A 3x3 convolution of stride 1 and margin 1 goes by Winograd's minimal filtering
// F(4x4,3x3) (Lavin and Gray 2016, section 4.1): a tile is 4x4 outputs, its window
// of 6x6 pixels is transformed to as many points, and at each point the channels
// of all tiles are multiplied with one matrix: 36 products for 16 outputs where
// the direct sum takes 144.
//
// Errors against float64, root mean square over that of the result, for normal
// operands on AVX-512 and AVX2, and those of the direct sum: of the outputs (the
// gradient of the input has the same) and of the gradient of the weight. The
// largest single errors are ten times those.
//
//	              outputs           weight
//	2x32x32x128   1.0e-6 (6.0e-7)   7.8e-7 (2.9e-7)
//	2x16x16x256   1.5e-6 (8.4e-7)   6.0e-7 (2.8e-7)
//	4x8x8x256     1.5e-6 (8.1e-7)   5.0e-7 (2.6e-7)
//	16x32x32x32   5.9e-7 (3.0e-7)   8.5e-7 (3.1e-7)
//	32x16x16x64   7.8e-7 (4.2e-7)   8.3e-7 (2.9e-7)
const (
	tile   = 4        // outputs of a side
	window = tile + 2 // pixels, and points, of a side
	points = window * window

	minTerms = 8 // of a sum (minimal)
	minTiles = 4 // of an image
)

// minimal says whether a convolution goes by the filtering that sums over so many
// terms: input channels, or output channels for the gradient of the input, or
// pixels for that of the weight. It is a fixed table: terms enough to pay for the
// transform of what is summed, tiles of which enough lies in the image that the
// products are half of the direct sum's at most, and so many of them that they pay
// for the transform of the weight and even out their errors (on 4x4 pixels little
// is gained, and a trained weight is twice as far off). It does not look at the
// number of images: no image's result depends on the others of its batch.
func minimal(g *geometry, terms int) bool {
	tiles := (g.OH + tile - 1) / tile * ((g.OW + tile - 1) / tile)
	return g.Kernel == 3 && g.Stride == 1 && g.PadLo == 1 && g.PadHi == 1 &&
		terms >= minTerms && tiles >= minTiles && 2*points*tiles <= 9*g.OH*g.OW
}

// tiling cuts images of h x w outputs in tiles.
type tiling struct {
	h, w                int
	tw, perImage, tiles int // tiles in a row, in an image, in all
}

func newTiling(n, h, w int) tiling {
	t := tiling{h: h, w: w, tw: (w + tile - 1) / tile}
	t.perImage = (h + tile - 1) / tile * t.tw
	t.tiles = n * t.perImage
	return t
}

// run is where tile i of all images is: its image, its row and column, and the
// number of tiles before last or the end of the row.
func (t *tiling) run(i, last int) (n, ty, tx, tiles int) {
	n, i = i/t.perImage, i%t.perImage
	ty, tx = i/t.tw, i%t.tw
	return n, ty, tx, min(t.tw-tx, last-n*t.perImage-i)
}

// windows is images of h x w pixels of c channels as the transforms read them:
// squares of edge pixels, step apart, the first one off pixels above and left of
// the image. What lies outside of the image is zero.
type windows struct {
	set             kernel.Set
	transform       kernel.Transform
	src, zeros      []float32
	h, w, c         int
	edge, step, off int
}

// run transforms count windows of image n from row ty and column tx on, their
// channels from first on: p says how many and where to.
func (v *windows) run(p kernel.Patch, n, ty, tx, count, first int) {
	y, x := ty*v.step-v.off, tx*v.step-v.off
	p.Src, p.Zeros = v.src, v.zeros
	p.SrcRow, p.SrcCol, p.SrcStep = v.w*v.c, v.c, v.step*v.c
	p.RowLo, p.RowHi = max(0, -y), min(v.edge, v.h-y)
	p.SrcAt = ((n*v.h+y)*v.w+x)*v.c + first
	for count > 0 {
		// All windows within the image's columns are one run.
		p.N, p.ColLo, p.ColHi = 1, max(0, -x), min(v.edge, v.w-x)
		if x >= 0 && v.w-x >= v.edge {
			p.N = min(count, (v.w-x-v.edge)/v.step+1)
		}
		v.set.Transform(v.transform, &p)
		p.SrcAt += p.N * p.SrcStep
		p.Dst = p.Dst[p.N*p.DstStep:]
		x += p.N * v.step
		count -= p.N
	}
}
