package cpu

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/tensor"
)

// vecArgs are the operands of a loop over elements: x and y are inputs.
type vecArgs struct {
	dst, x, y []float32
	alpha     float32
}

// rowArgs are the operands of a loop over rows of width elements; a block of
// rows is one iteration.
type rowArgs struct {
	dst, x, y     []float32
	width, second int
	per           int // rows a sample
	rows, block   int
}

// bounds are the rows of iteration i.
func (a *rowArgs) bounds(i int) (lo, hi int) {
	return i * a.block, min((i+1)*a.block, a.rows)
}

// newRows cuts n rows of width elements in blocks of about span elements.
func newRows(n, width int) (a rowArgs, iterations int) {
	block := max(1, span/max(1, width))
	return rowArgs{rows: n, width: width, block: block}, (n + block - 1) / block
}

// Copy is dst = a, converting between F32 and BF16.
func (b *Backend) Copy(dst, a tensor.Tensor) {
	same("Copy", dst, a)
	n := a.Shape.Len()
	switch d := dst.Buf.(type) {
	case *f32Buffer:
		if s, ok := a.Buf.(*bf16Buffer); ok {
			b.tasks.widen.run(b.pool, spans(n), castArgs{d.data[:n], s.data[:n]})
			return
		}
		b.tasks.copy.run(b.pool, spans(n), vecArgs{dst: d.data[:n], x: f32("Copy", a)})
	case *bf16Buffer:
		if s, ok := a.Buf.(*bf16Buffer); ok {
			copy(d.data[:n], s.data[:n])
			return
		}
		b.tasks.narrow.run(b.pool, spans(n), castArgs{f32("Copy", a), d.data[:n]})
	case *i64Buffer:
		copy(d.data[:n], i64("Copy", a))
	default:
		panic(foreign(dst.Buf))
	}
}

type castArgs struct {
	wide   []float32
	narrow []uint16
}

func widenSpan(a *castArgs, i int) {
	lo, hi := bounds(i, len(a.wide))
	for j, v := range a.narrow[lo:hi] {
		a.wide[lo+j] = fromBF16(v)
	}
}

func narrowSpan(a *castArgs, i int) {
	lo, hi := bounds(i, len(a.wide))
	for j, v := range a.wide[lo:hi] {
		a.narrow[lo+j] = toBF16(v)
	}
}

func copySpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	copy(a.dst[lo:hi], a.x[lo:hi])
}

// Fill is dst = v.
func (b *Backend) Fill(dst tensor.Tensor, v float32) {
	if d, ok := dst.Buf.(*bf16Buffer); ok {
		h := toBF16(v)
		for i := range d.data[:dst.Shape.Len()] {
			d.data[i] = h
		}
		return
	}
	d := f32("Fill", dst)
	b.tasks.fill.run(b.pool, spans(len(d)), vecArgs{dst: d, alpha: v})
}

func fillSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d := a.dst[lo:hi]
	for j := range d {
		d[j] = a.alpha
	}
}

// Add is dst = a + b.
func (b *Backend) Add(dst, x, y tensor.Tensor) {
	same("Add", dst, x)
	same("Add", dst, y)
	d := f32("Add", dst)
	b.tasks.add.run(b.pool, spans(len(d)), vecArgs{dst: d, x: f32("Add", x), y: f32("Add", y)})
}

func addSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d, x, y := a.dst[lo:hi], a.x[lo:hi], a.y[lo:hi]
	for j := range d {
		d[j] = x[j] + y[j]
	}
}

// AddScaled is dst = dst + alpha a.
func (b *Backend) AddScaled(dst, x tensor.Tensor, alpha float32) {
	same("AddScaled", dst, x)
	d := f32("AddScaled", dst)
	b.tasks.addScaled.run(b.pool, spans(len(d)), vecArgs{dst: d, x: f32("AddScaled", x), alpha: alpha})
}

func addScaledSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d, x := a.dst[lo:hi], a.x[lo:hi]
	for j := range d {
		d[j] += a.alpha * x[j]
	}
}

// Scale is dst = alpha a.
func (b *Backend) Scale(dst, x tensor.Tensor, alpha float32) {
	same("Scale", dst, x)
	d := f32("Scale", dst)
	b.tasks.scale.run(b.pool, spans(len(d)), vecArgs{dst: d, x: f32("Scale", x), alpha: alpha})
}

func scaleSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d, x := a.dst[lo:hi], a.x[lo:hi]
	for j := range d {
		d[j] = a.alpha * x[j]
	}
}

// SiLU is dst = x sigmoid(x).
func (b *Backend) SiLU(dst, x tensor.Tensor) {
	same("SiLU", dst, x)
	d := f32("SiLU", dst)
	b.tasks.silu.run(b.pool, spans(len(d)), vecArgs{dst: d, x: f32("SiLU", x)})
}

func siluSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d, x := a.dst[lo:hi], a.x[lo:hi]
	for j, v := range x {
		d[j] = v * sigmoid(v)
	}
}

func sigmoid(v float32) float32 { return 1 / (1 + float32(math.Exp(-float64(v)))) }

// SiLUGrad is dx = dy d silu(x)/dx.
func (b *Backend) SiLUGrad(dx, dy, x tensor.Tensor) {
	same("SiLUGrad", dx, dy)
	same("SiLUGrad", dx, x)
	d := f32("SiLUGrad", dx)
	b.tasks.siluGrad.run(b.pool, spans(len(d)), vecArgs{dst: d, x: f32("SiLUGrad", x), y: f32("SiLUGrad", dy)})
}

func siluGradSpan(a *vecArgs, i int) {
	lo, hi := bounds(i, len(a.dst))
	d, x, dy := a.dst[lo:hi], a.x[lo:hi], a.y[lo:hi]
	for j, v := range x {
		s := sigmoid(v)
		d[j] = dy[j] * (s * (1 + v*(1-s)))
	}
}

// AddChannels is dst[n,...,c] = x[n,...,c] + e[n,c], or + e[c].
func (b *Backend) AddChannels(dst, x, e tensor.Tensor) {
	const op = "AddChannels"
	same(op, dst, x)
	n, c := rows(x.Shape)
	a, iterations := newRows(n, c)
	a.dst, a.x, a.y, a.per = f32(op, dst), f32(op, x), f32(op, e), n
	if e.Shape.Rank() == 2 {
		batch := x.Shape.Dim(0)
		want(op, "e", e, tensor.Of(batch, c))
		a.per = n / max(1, batch)
	} else {
		want(op, "e", e, tensor.Of(c))
	}
	b.tasks.addChannels.run(b.pool, iterations, a)
}

func addChannelsRows(a *rowArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		d, x := a.dst[r*a.width:][:a.width], a.x[r*a.width:][:a.width]
		e := a.y[r/a.per*a.width:][:a.width]
		for j := range d {
			d[j] = x[j] + e[j]
		}
	}
}

// joint checks the shapes of Concat and Split: whole is [..., ca+cb].
func joint(op string, whole, x, y tensor.Tensor) rowArgs {
	n, c := rows(whole.Shape)
	nx, cx := rows(x.Shape)
	ny, cy := rows(y.Shape)
	ok := whole.Shape.Rank() == x.Shape.Rank() && x.Shape.Rank() == y.Shape.Rank()
	if !ok || n != nx || n != ny || c != cx+cy {
		panic(fmt.Sprintf("cpu: %s: %v is not %v beside %v", op, whole.Shape, x.Shape, y.Shape))
	}
	return rowArgs{rows: n, width: cx, second: cy}
}

// Concat is dst = [a, b] along the last dimension.
func (b *Backend) Concat(dst, x, y tensor.Tensor) {
	a := joint("Concat", dst, x, y)
	a.dst, a.x, a.y = f32("Concat", dst), f32("Concat", x), f32("Concat", y)
	a.block = max(1, span/max(1, a.width+a.second))
	b.tasks.concat.run(b.pool, (a.rows+a.block-1)/a.block, a)
}

func concatRows(a *rowArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		d := a.dst[r*(a.width+a.second):]
		copy(d, a.x[r*a.width:][:a.width])
		copy(d[a.width:], a.y[r*a.second:][:a.second])
	}
}

// Split undoes Concat.
func (b *Backend) Split(dx, dy, src tensor.Tensor) {
	a := joint("Split", src, dx, dy)
	a.dst, a.x, a.y = f32("Split", src), f32("Split", dx), f32("Split", dy)
	a.block = max(1, span/max(1, a.width+a.second))
	b.tasks.split.run(b.pool, (a.rows+a.block-1)/a.block, a)
}

func splitRows(a *rowArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		s := a.dst[r*(a.width+a.second):]
		copy(a.x[r*a.width:][:a.width], s)
		copy(a.y[r*a.second:][:a.second], s[a.width:])
	}
}

type qSampleArgs struct {
	dst, x0, eps, ca, cb []float32
	per                  int
}

// QSample is dst[n,...] = ca[n] x0[n,...] + cb[n] eps[n,...].
func (b *Backend) QSample(dst, x0, eps, ca, cb tensor.Tensor) {
	const op = "QSample"
	same(op, dst, x0)
	same(op, dst, eps)
	n, per := samples(dst.Shape)
	want(op, "ca", ca, tensor.Of(n))
	want(op, "cb", cb, tensor.Of(n))
	b.tasks.qSample.run(b.pool, n, qSampleArgs{
		f32(op, dst), f32(op, x0), f32(op, eps), f32(op, ca), f32(op, cb), per,
	})
}

func qSampleOne(a *qSampleArgs, n int) {
	d, x, e := a.dst[n*a.per:][:a.per], a.x0[n*a.per:][:a.per], a.eps[n*a.per:][:a.per]
	ca, cb := a.ca[n], a.cb[n]
	for j := range d {
		d[j] = ca*x[j] + cb*e[j]
	}
}
