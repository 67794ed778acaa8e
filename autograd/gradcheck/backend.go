package gradcheck

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// Backend computes in float64. Buffers of type F32 hold float64 values; BF16 is not
// supported.
type Backend struct{}

var _ tensor.Backend = Backend{}

// Buffer is a run of float64 or int64 values.
type Buffer struct {
	f []float64
	i []int64
}

// DType is F32 for the float64 values.
func (b *Buffer) DType() tensor.DType {
	if b.i != nil {
		return tensor.I64
	}
	return tensor.F32
}

// Len is the number of elements.
func (b *Buffer) Len() int { return max(len(b.f), len(b.i)) }

// Float64s is the buffer itself.
func (b *Buffer) Float64s() []float64 { return b.f }

// Float64s is the content of a buffer of this backend, not a copy.
func Float64s(b tensor.Buffer) []float64 { return b.(*Buffer).f }

func f(t tensor.Tensor) []float64 {
	x := t.Buf.(*Buffer).f
	if len(x) != t.Shape.Len() {
		panic(fmt.Sprintf("gradcheck: %v in a buffer of %d", t.Shape, len(x)))
	}
	return x
}

func ints(t tensor.Tensor) []int64 { return t.Buf.(*Buffer).i }

// Name is "float64".
func (Backend) Name() string { return "float64" }

// Close does nothing.
func (Backend) Close() error { return nil }

// Sync does nothing.
func (Backend) Sync() error { return nil }

// Alloc returns zeros.
func (Backend) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	switch dt {
	case tensor.F32:
		return &Buffer{f: make([]float64, n)}, nil
	case tensor.I64:
		return &Buffer{i: make([]int64, n)}, nil
	case tensor.BF16:
	}
	return nil, fmt.Errorf("gradcheck: no %v", dt)
}

// Free overwrites the buffer with NaN, so that a use after it shows.
func (Backend) Free(b tensor.Buffer) {
	for i := range b.(*Buffer).f {
		b.(*Buffer).f[i] = math.NaN()
	}
}

// Slice returns a view.
func (Backend) Slice(b tensor.Buffer, off, n int) tensor.Buffer {
	if s := b.(*Buffer); s.i != nil {
		return &Buffer{i: s.i[off : off+n : off+n]}
	}
	return &Buffer{f: b.(*Buffer).f[off : off+n : off+n]}
}

// Upload copies.
func (Backend) Upload(dst tensor.Buffer, src []float32) {
	for i, v := range src {
		dst.(*Buffer).f[i] = float64(v)
	}
}

// UploadInt64 copies.
func (Backend) UploadInt64(dst tensor.Buffer, src []int64) { copy(dst.(*Buffer).i, src) }

// Download rounds to float32.
func (Backend) Download(dst []float32, src tensor.Buffer) error {
	for i, v := range src.(*Buffer).f {
		dst[i] = float32(v)
	}
	return nil
}

// Copy is dst = a.
func (Backend) Copy(dst, a tensor.Tensor) { copy(f(dst), f(a)) }

// Fill is dst = v.
func (Backend) Fill(dst tensor.Tensor, v float32) {
	y := f(dst)
	for i := range y {
		y[i] = float64(v)
	}
}

func zip(dst, a, b tensor.Tensor, op func(a, b float64) float64) {
	if dst.Shape != a.Shape || a.Shape != b.Shape {
		panic(fmt.Sprintf("gradcheck: shapes %v, %v, %v", dst.Shape, a.Shape, b.Shape))
	}
	y, p, q := f(dst), f(a), f(b)
	for i := range y {
		y[i] = op(p[i], q[i])
	}
}

// Add is dst = a + b.
func (Backend) Add(dst, a, b tensor.Tensor) {
	zip(dst, a, b, func(a, b float64) float64 { return a + b })
}

// AddScaled is dst += alpha a.
func (Backend) AddScaled(dst, a tensor.Tensor, alpha float32) {
	zip(dst, dst, a, func(d, a float64) float64 { return d + float64(alpha)*a })
}

// Scale is dst = alpha a.
func (Backend) Scale(dst, a tensor.Tensor, alpha float32) {
	zip(dst, a, a, func(a, _ float64) float64 { return float64(alpha) * a })
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// SiLU is x sigmoid(x).
func (Backend) SiLU(dst, x tensor.Tensor) {
	zip(dst, x, x, func(x, _ float64) float64 { return x * sigmoid(x) })
}

// SiLUGrad is dy s (1 + x (1-s)), s = sigmoid(x).
func (Backend) SiLUGrad(dx, dy, x tensor.Tensor) {
	zip(dx, dy, x, func(dy, x float64) float64 { return dy * sigmoid(x) * (1 + x*(1-sigmoid(x))) })
}

// AddChannels adds e [C] or [N,C].
func (Backend) AddChannels(dst, x, e tensor.Tensor) {
	y, p, q := f(dst), f(x), f(e)
	c, perSample := x.Shape.Dim(-1), len(y)/x.Shape.Dim(0)
	for i := range y {
		row := 0
		if e.Shape.Rank() == 2 {
			row = i / perSample
		}
		y[i] = p[i] + q[row*c+i%c]
	}
}

// Concat is [a, b].
func (Backend) Concat(dst, a, b tensor.Tensor) {
	ca, cb := a.Shape.Dim(-1), b.Shape.Dim(-1)
	y, p, q := f(dst), f(a), f(b)
	for r := range len(p) / ca {
		copy(y[r*(ca+cb):], p[r*ca:(r+1)*ca])
		copy(y[r*(ca+cb)+ca:], q[r*cb:(r+1)*cb])
	}
}

// Split undoes Concat.
func (Backend) Split(da, db, src tensor.Tensor) {
	ca, cb := da.Shape.Dim(-1), db.Shape.Dim(-1)
	p, q, y := f(da), f(db), f(src)
	for r := range len(p) / ca {
		copy(p[r*ca:(r+1)*ca], y[r*(ca+cb):])
		copy(q[r*cb:(r+1)*cb], y[r*(ca+cb)+ca:])
	}
}

// QSample is ca x0 + cb eps.
func (Backend) QSample(dst, x0, eps, ca, cb tensor.Tensor) {
	y, p, q, a, b := f(dst), f(x0), f(eps), f(ca), f(cb)
	per := len(y) / dst.Shape.Dim(0)
	for i := range y {
		y[i] = a[i/per]*p[i] + b[i/per]*q[i]
	}
}
