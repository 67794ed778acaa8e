package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// packing rewrites B in panels of a tile's columns, each [k][nr]. The last one is filled
// up with zeros: no result of theirs is stored, but stale numbers could be
// denormal, and slow. The source is [k, n], or [n, k] when transposed, for each of
// a number of taps; panel rows run over the taps of the list in order. In pairs
// (form) it is two values of k for one row.
type packing struct {
	dst, src []float32
	form     form
	set      kernel.Set
	nr       int
	k, n     int   // of one tap
	taps     []int // offsets of the taps' matrices in src
	transB   bool
	alpha    float32
	step     int // from one product of the batch to the next, in src
	panels   int
	batch    int
	zeros    []float32 // a row
}

// newPacking packs panels of nr columns.
func (b *Backend) newPacking(nr int, src []float32, k, n int, taps []int) packing {
	p := packing{
		src: src, form: b.form, set: b.products, nr: nr, k: k, n: n, taps: taps, alpha: 1,
		panels: (n + nr - 1) / nr, batch: 1,
	}
	if b.form == paired {
		p.zeros = b.scratch.zeros.get(nr)
	}
	return p
}

// direct says that B serves as it lies: nothing to change, and a single panel,
// which a copy would equal, or two and so few rows of A that they do not pay for
// one. The rows of more panels are so far apart that they hinder each other in
// the cache.
func (p *packing) direct(rows int) bool {
	whole := p.form == asIs && p.straight() && p.n%p.nr == 0
	return whole && (p.n == p.nr || p.n == 2*p.nr && rows <= directRows)
}

// directRows is the largest number of rows of A that use B where it lies.
const directRows = 256

// size is the number of floats of dst for a batch.
func (p *packing) size() int { return p.batch * p.panels * p.panel() }

// panel is the number of floats of a panel.
func (p *packing) panel() int { return len(p.taps) * p.form.slots(p.k) * p.nr }

// items is the number of iterations: one a panel and tap.
func (p *packing) items() int { return p.batch * p.panels * len(p.taps) }

// result describes the panels, in src where there is no dst.
func (p *packing) result() panels {
	if p.dst == nil {
		return panels{data: p.src, ld: p.n, panel: p.nr, step: p.k * p.n}
	}
	return panels{data: p.dst, ld: p.nr, panel: p.panel(), step: p.panels * p.panel()}
}

func (p *packing) item(i int) {
	tap, i := i%len(p.taps), i/len(p.taps)
	panel, s := i%p.panels, i/p.panels
	size := p.form.slots(p.k) * p.nr
	dst := p.dst[((s*p.panels+panel)*len(p.taps)+tap)*size:][:size]
	src := p.src[s*p.step+p.taps[tap]:]
	left := panel * p.nr
	cols := min(p.nr, p.n-left)
	if p.form == paired {
		p.pair(dst, src, left, cols)
		return
	}
	p.fill(dst, src, left, cols, 0, p.k)
	if p.form == rounded && !p.straight() {
		p.set.RoundBF16(dst, dst)
	}
}

// straight says that the rows of the source are those of the panel.
func (p *packing) straight() bool { return !p.transB && p.alpha == 1 }

// fill copies rows [lo, hi) of B, cols columns from left on.
func (p *packing) fill(dst, src []float32, left, cols, lo, hi int) {
	if p.transB {
		p.set.Transpose(dst, p.nr, src[left*p.k+lo:], p.k, cols, hi-lo)
	} else {
		form := asIs
		if p.form == rounded && p.straight() {
			form = rounded
		}
		for k := lo; k < hi; k++ {
			form.put(p.set, dst[(k-lo)*p.nr:][:cols], src[k*p.n+left:][:cols])
		}
	}
	if cols < p.nr {
		for k := range hi - lo {
			clear(dst[k*p.nr+cols : (k+1)*p.nr])
		}
	}
	if p.alpha != 1 {
		p.set.Scale(dst, dst, p.alpha)
	}
}

// padding copies images [n,h,w,c] in the middle of zeros: lo pixels above and on
// the left, hi below and on the right.
type padding struct {
	dst, src    []float32
	form        form
	set         kernel.Set
	n, h, w, c  int
	lo, hi      int
	rows, width int // of a padded image: pixels
	pixel       int // from one pixel of the result to the next; at least its slots
}

func (b *Backend) newPadding(src []float32, n, h, w, c, lo, hi int) padding {
	return padding{
		src: src, form: b.form, set: b.products, n: n, h: h, w: w, c: c, lo: lo, hi: hi,
		rows: h + lo + hi, width: w + lo + hi, pixel: b.form.slots(c),
	}
}

func (p *padding) size() int { return p.n * p.rows * p.width * p.pixel }

// none says that there is nothing to change: the source serves as it is.
func (p *padding) none() bool { return p.form == asIs && p.lo == 0 && p.hi == 0 }

// items is the number of iterations: one an image row of the result.
func (p *padding) items() int {
	if p.none() {
		return 0
	}
	return p.n * p.rows
}

func (p *padding) item(i int) {
	n, y := i/p.rows, i%p.rows-p.lo
	dst := p.dst[i*p.width*p.pixel:][:p.width*p.pixel]
	if y < 0 || y >= p.h {
		clear(dst)
		return
	}
	row := p.w * p.c
	src := p.src[(n*p.h+y)*row:][:row]
	left, right := p.lo*p.pixel, (p.lo+p.w)*p.pixel
	clear(dst[:left])
	clear(dst[right:])
	if p.form.slots(row) == p.w*p.pixel { // no gaps, no pixel that ends in half a pair
		p.form.put(p.set, dst[left:right], src)
		return
	}
	for x := range p.w {
		p.form.put(p.set, dst[left+x*p.pixel:][:p.form.slots(p.c)], src[x*p.c:][:p.c])
	}
}

// prepArgs is what goes before a product: the packing and the padding in one
// loop.
type prepArgs struct {
	pack packing
	pad  padding
	cut  int // iterations of pack
}

func (a *prepArgs) items() int {
	a.cut = 0
	if a.pack.dst != nil {
		a.cut = a.pack.items()
	}
	return a.cut + a.pad.items()
}

func prepItem(a *prepArgs, i int) {
	if i < a.cut {
		a.pack.item(i)
	} else {
		a.pad.item(i - a.cut)
	}
}

// scratch is the backend's working memory. It grows to the largest operation and
// stays.
type scratch struct {
	panels, image, bias floats
	sums, norm          floats
	points, slots       floats    // of winograd
	rounded             [2]floats // operands of winograd
	zeros               floats
	arow, crow, irow    []int
	taps, shift         []int
	partial             []float64
}

// floats is scratch that kernels may read Slack past.
type floats struct{ data []float32 }

func (f *floats) get(n int) []float32 {
	if cap(f.data) < n+kernel.Slack {
		f.data = aligned[float32](n)
	}
	return f.data[:n]
}

// grow returns s with room for n elements, reallocated only when too small.
func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}
