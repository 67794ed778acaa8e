package inception

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// value is an activation [batch, h, w, c] of a pass.
type value struct {
	t       tensor.Tensor
	buf     tensor.Buffer // where t is from
	data    []float32     // its memory
	h, w, c int
}

// flat is the value as rows.
func (v value) flat(rows int) tensor.Tensor {
	return v.t.View(tensor.Of(rows, v.t.Shape.Len()/rows))
}

// pass is one run of the network. After an error all its operations do nothing.
type pass struct {
	n   *Network
	err error
}

// alloc takes memory that is free, the smallest that fits, or allocates it.
func (p *pass) alloc(h, w, c int) value {
	size := p.n.batch * h * w * c
	best := -1
	for i, b := range p.n.pool {
		if b.Len() >= size && (best < 0 || b.Len() < p.n.pool[best].Len()) {
			best = i
		}
	}
	var buf tensor.Buffer
	if best >= 0 {
		buf = p.n.pool[best]
		p.n.pool = append(p.n.pool[:best], p.n.pool[best+1:]...)
	} else {
		var err error
		if buf, err = p.n.be.Alloc(tensor.F32, size); err != nil {
			p.err = fmt.Errorf("inception: %w", err)
			return value{}
		}
	}
	return value{
		t: tensor.Tensor{Buf: p.n.be.Slice(buf, 0, size), Shape: tensor.Of(p.n.batch, h, w, c)}, buf: buf,
		data: buf.(tensor.Host).Float32s()[:size], h: h, w: w, c: c, //nolint:forcetypeassert // New has checked
	}
}

// free gives memory back to the pool.
func (p *pass) free(v value) {
	if v.buf != nil {
		p.n.pool = append(p.n.pool, v.buf)
	}
}

// replace frees x and returns y.
func (p *pass) replace(x, y value) value {
	p.free(x)
	return y
}

func (p *pass) input() value {
	x := p.alloc(side, side, 3)
	if p.err == nil {
		copy(x.data, p.n.images)
	}
	return x
}

// conv is relu(conv(x) + bias).
func (p *pass) conv(name string, x value) value { return p.convolve(name, x, true) }

// convolve is conv(x) + bias, rectified where relu is set (always, but for 1x1 and 3x3).
func (p *pass) convolve(name string, x value, relu bool) value {
	if p.err != nil {
		return value{}
	}
	l := p.n.weights[name]
	ph, pw := 0, 0
	if l.padded {
		ph, pw = l.kh/2, l.kw/2
	}
	y := p.alloc((x.h+2*ph-l.kh)/l.stride+1, (x.w+2*pw-l.kw)/l.stride+1, l.out)
	if p.err != nil {
		return value{}
	}
	if l.kh == l.kw && l.kh <= 3 {
		p.n.be.Conv2D(y.t, x.t, l.w, l.bias, tensor.Tensor{}, tensor.Tensor{}, tensor.Conv{Kernel: l.kh, Stride: l.stride, PadLo: ph, PadHi: ph})
		if relu {
			rectify(y.data)
		}
		return y
	}
	patches := p.alloc(y.h, y.w, l.kh*l.kw*l.in)
	if p.err != nil {
		return value{}
	}
	p.patches(patches.data, x, l.kh, l.kw)
	rows := p.n.batch * y.h * y.w
	p.n.be.MatMul(y.flat(rows), patches.flat(rows), l.w.View(tensor.Of(l.kh*l.kw*l.in, l.out)), tensor.MatMulArgs{Alpha: 1})
	p.free(patches)
	addBias(y.data, l.host)
	rectify(y.data)
	return y
}

// addBias adds the bias to every pixel.
func addBias(v, bias []float32) {
	for ; len(v) > 0; v = v[len(bias):] {
		row := v[:len(bias)]
		for c, b := range bias {
			row[c] += b
		}
	}
}

// rectify is ReLU, without a branch: it clears what has its sign bit set.
func rectify(v []float32) {
	for i, x := range v {
		b := math.Float32bits(x)
		v[i] = math.Float32frombits(b &^ uint32(int32(b)>>31))
	}
}

// patches copies, for every pixel, its kh x kw neighbourhood (zero outside) into a row.
func (p *pass) patches(dst []float32, x value, kh, kw int) {
	src := x.data
	for i := range p.n.batch {
		for y := range x.h {
			for xx := range x.w {
				for dy := range kh {
					for dx := range kw {
						sy, sx := y+dy-kh/2, xx+dx-kw/2
						if sy < 0 || sy >= x.h || sx < 0 || sx >= x.w {
							clear(dst[:x.c])
						} else {
							copy(dst[:x.c], src[((i*x.h+sy)*x.w+sx)*x.c:])
						}
						dst = dst[x.c:]
					}
				}
			}
		}
	}
}

// window calls f for every output pixel of a 3x3 pooling with the offsets of its inputs
// inside the image.
func (p *pass) window(x value, oh, ow, stride, pad int, f func(out int, in []int)) {
	in := make([]int, 0, 9)
	for i := range p.n.batch {
		for y := range oh {
			for xx := range ow {
				in = in[:0]
				for dy := range 3 {
					for dx := range 3 {
						if sy, sx := y*stride+dy-pad, xx*stride+dx-pad; sy >= 0 && sy < x.h && sx >= 0 && sx < x.w {
							in = append(in, ((i*x.h+sy)*x.w+sx)*x.c)
						}
					}
				}
				f(((i*oh+y)*ow+xx)*x.c, in)
			}
		}
	}
}

// maxPool is a 3x3 max pooling.
func (p *pass) maxPool(x value, stride, pad int) value {
	if p.err != nil {
		return value{}
	}
	y := p.alloc((x.h+2*pad-3)/stride+1, (x.w+2*pad-3)/stride+1, x.c)
	if p.err != nil {
		return value{}
	}
	src, dst := x.data, y.data
	p.window(x, y.h, y.w, stride, pad, func(out int, in []int) {
		row := dst[out : out+x.c]
		copy(row, src[in[0]:])
		for _, at := range in[1:] {
			for c, v := range src[at:][:len(row)] {
				if v > row[c] {
					row[c] = v
				}
			}
		}
	})
	return y
}

// avgPool is a 3x3 average pooling that keeps the size and does not count the padding:
// sums of three rows, then of three columns.
func (p *pass) avgPool(x value) value {
	if p.err != nil {
		return value{}
	}
	y := p.alloc(x.h, x.w, x.c)
	if p.err != nil {
		return value{}
	}
	line := x.w * x.c
	sums := make([]float32, line)
	for i := range p.n.batch {
		for top := range x.h {
			lo, hi := max(top-1, 0), min(top+1, x.h-1)
			copy(sums, x.data[(i*x.h+lo)*line:])
			for at := lo + 1; at <= hi; at++ {
				accumulate(sums, x.data[(i*x.h+at)*line:][:line])
			}
			for col := range x.w {
				row := y.data[((i*x.h+top)*x.w+col)*x.c:][:x.c]
				left, right := max(col-1, 0), min(col+1, x.w-1)
				copy(row, sums[left*x.c:])
				for at := left + 1; at <= right; at++ {
					accumulate(row, sums[at*x.c:][:x.c])
				}
				scale := 1 / float32((hi-lo+1)*(right-left+1))
				for c := range row {
					row[c] *= scale
				}
			}
		}
	}
	return y
}

// accumulate adds src to dst.
func accumulate(dst, src []float32) {
	src = src[:len(dst)]
	for i, v := range src {
		dst[i] += v
	}
}

// mean is the average over all pixels, [batch, 1, 1, c].
func (p *pass) mean(x value) value {
	if p.err != nil {
		return value{}
	}
	y := p.alloc(1, 1, x.c)
	if p.err != nil {
		return value{}
	}
	src, dst := x.data, y.data
	clear(dst)
	pixels := x.h * x.w
	for i := range p.n.batch {
		row := dst[i*x.c:][:x.c]
		for at := range pixels {
			for c, v := range src[(i*pixels+at)*x.c:][:x.c] {
				row[c] += v
			}
		}
		for c := range row {
			row[c] /= float32(pixels)
		}
	}
	return y
}

// concat joins values along the channels and frees them.
func (p *pass) concat(parts ...value) value {
	total := 0
	for _, v := range parts {
		total += v.c
	}
	if p.err != nil {
		return value{}
	}
	y := p.alloc(parts[0].h, parts[0].w, total)
	if p.err != nil {
		return value{}
	}
	off := 0
	for _, v := range parts {
		src, dst := v.data, y.data
		for at := range p.n.batch * y.h * y.w {
			copy(dst[at*total+off:], src[at*v.c:][:v.c])
		}
		off += v.c
		p.free(v)
	}
	return y
}

// resize enlarges an image to side x side x 3 bilinearly, with pixel centres at halves
// (PyTorch's align_corners=False, no antialiasing).
func resize(dst, src []float32, height, width, channels int) {
	ys, xs := taps(height), taps(width)
	for y := range side {
		a, b, fy := ys[y].lo, ys[y].hi, ys[y].f
		for x := range side {
			l, r, fx := xs[x].lo, xs[x].hi, xs[x].f
			for c := range 3 {
				k := min(c, channels-1)
				at := func(y, x int) float32 { return src[(y*width+x)*channels+k] }
				top := (1-fx)*at(a, l) + fx*at(a, r)
				bottom := (1-fx)*at(b, l) + fx*at(b, r)
				dst[(y*side+x)*3+c] = (1-fy)*top + fy*bottom
			}
		}
	}
}

// tap is where an output pixel lies between two input pixels.
type tap struct {
	lo, hi int
	f      float32
}

func taps(n int) []tap {
	out := make([]tap, side)
	scale := float64(n) / side
	for i := range out {
		at := max((float64(i)+0.5)*scale-0.5, 0)
		lo := int(math.Floor(at))
		out[i] = tap{lo, min(lo+1, n-1), float32(at - float64(lo))}
	}
	return out
}
