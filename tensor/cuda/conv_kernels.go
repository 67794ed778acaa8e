//go:build cuda

package cuda

import (
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// The constants of conv.cu.
const (
	convThreads   = 256
	windowEach    = 4
	transposeTile = 32
	finishEach    = 8
)

// image is [n,height,width,channels] in memory.
type image struct {
	ptr                        cu.DevicePtr
	dtype                      tensor.DType
	n, height, width, channels int
}

// window is dst[y,x,k] = src[y+shift,x+shift,k], and zero where src has no such
// element.
func (b *Backend) window(dst, src image, shift int) {
	size := dst.height * dst.width * dst.channels
	g := grid{ceil(size, convThreads*windowEach), min(dst.n, maxGridY)}
	b.launch(b.kernels.window[dst.dtype].of(src.dtype), g, convThreads,
		uint64(dst.ptr), uint64(src.ptr), intArg(dst.n), intArg(dst.height), intArg(dst.width), intArg(dst.channels),
		intArg(src.height), intArg(src.width), intArg(src.channels), intArg(shift))
}

// images are x or y as the caller has it and as the library sees it.
func (v *convolution) images() (x, px, y, py image) {
	g := &v.g
	return image{v.x.ptr, v.x.dtype, g.n, g.ih, g.iw, g.ci}, image{v.px.ptr, v.px.dtype, g.n, v.height, v.width, v.ci},
		image{v.y.ptr, v.y.dtype, g.n, g.oh, g.ow, g.co}, image{v.py.ptr, v.py.dtype, g.n, g.oh, g.ow, v.co}
}

func (v *convolution) loadImage() {
	x, px, _, _ := v.images()
	v.be.reshape(px, x, -v.margin)
}

func (v *convolution) storeImage() {
	x, px, _, _ := v.images()
	v.be.reshape(x, px, v.margin)
}

func (v *convolution) loadGrad() {
	_, _, y, py := v.images()
	v.be.reshape(py, y, 0)
}

// reshape fills dst from src, unless they are one, by a plain copy where the sizes
// are the same.
func (b *Backend) reshape(dst, src image, shift int) {
	if dst.ptr == src.ptr {
		return
	}
	if dst.height == src.height && dst.width == src.width && dst.channels == src.channels {
		b.cast(dst.ptr, dst.dtype, src.ptr, src.dtype, dst.n*dst.height*dst.width*dst.channels)
		return
	}
	b.window(dst, src, shift)
}

// transposition is dst[tap][i][j] = src[tap][j][i] and zero where src has no such
// element: rows x columns of dst, filled filledRows x filledColumns.
type transposition struct {
	dstTap, dstRow, rows, columns             int
	srcTap, srcRow, filledRows, filledColumns int
}

func (b *Backend) transpose(dst cu.DevicePtr, to tensor.DType, src cu.DevicePtr, from tensor.DType, taps int, t transposition) {
	g := grid{ceil(t.rows, transposeTile) * ceil(t.columns, transposeTile), taps}
	b.launch(b.kernels.transpose[to].of(from), g, convThreads,
		uint64(dst), intArg(t.dstTap), intArg(t.dstRow), intArg(t.rows), intArg(t.columns),
		uint64(src), intArg(t.srcTap), intArg(t.srcRow), intArg(t.filledRows), intArg(t.filledColumns))
}

// loadFilter brings w [kernel,kernel,in,out] to [out,kernel,kernel,in].
func (v *convolution) loadFilter() {
	switch taps := v.g.taps(); {
	case v.pw.direct:
	case v.conv == nil:
		v.be.load(&v.pw, v.w)
	default:
		v.be.transpose(v.pw.ptr, v.pw.dtype, v.w.ptr, v.w.dtype, taps, transposition{
			dstTap: v.ci, dstRow: taps * v.ci, rows: v.co, columns: v.ci,
			srcTap: v.g.ci * v.g.co, srcRow: v.g.co, filledRows: v.g.co, filledColumns: v.g.ci,
		})
	}
}

// storeFilter undoes loadFilter.
func (v *convolution) storeFilter() {
	if v.conv == nil {
		v.be.store(v.w, &v.pw)
		return
	}
	taps := v.g.taps()
	v.be.transpose(v.w.ptr, v.w.dtype, v.pw.ptr, v.pw.dtype, taps, transposition{
		dstTap: v.g.ci * v.g.co, dstRow: v.g.co, rows: v.g.ci, columns: v.g.co,
		srcTap: v.ci, srcRow: taps * v.ci, filledRows: v.g.ci, filledColumns: v.g.co,
	})
}

// finish adds the epilogue to the library's result and writes y.
func (v *convolution) finish(e *epilogue) {
	if v.py.direct && *e == (epilogue{}) {
		return
	}
	vector := v.g.co%4 == 0 && v.co%4 == 0
	for _, p := range []cu.DevicePtr{v.y.ptr, e.bias, e.perSample, e.residual} {
		vector = vector && p%16 == 0
	}
	vectors := v.g.co
	if vector {
		vectors /= 4
	}
	down := convThreads / min(vectors, convThreads)
	pixels := v.g.oh * v.g.ow
	g := grid{ceil(pixels, down*finishEach), min(v.g.n, maxGridY)}
	v.be.launch(v.be.kernels.finish[v.y.dtype].of(v.py.dtype), g, convThreads,
		uint64(v.y.ptr), uint64(v.py.ptr), uint64(e.bias), uint64(e.perSample), uint64(e.residual),
		intArg(v.g.n), intArg(pixels), intArg(v.g.co), intArg(v.co), boolArg(vector))
}
