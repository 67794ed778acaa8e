package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

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
