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
	quads    bool // of pairs: two rows at once, as kernel.Set.Grouped says
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
		p.quads = b.products.Grouped()
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
func (p *packing) panel() int { return len(p.taps) * p.rows() * p.nr }

// rows is how many rows a tap has in a panel.
func (p *packing) rows() int { return p.grouped(p.form.slots(p.k)) }

// grouped is how many rows of a panel n rows take: an even number in quads.
func (p *packing) grouped(n int) int {
	if p.quads {
		return (n + 1) &^ 1
	}
	return n
}

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
	size := p.rows() * p.nr
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
