package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// vecArgs are the operands of a loop over elements: x and y are inputs.
type vecArgs struct {
	set         kernel.Set
	dst, x, y   []float32
	alpha, beta float32
}

// span returns the elements of iteration i; y may be absent.
func (a *vecArgs) span(i int) (dst, x, y []float32) {
	lo, hi := bounds(i, len(a.dst))
	if a.y != nil {
		y = a.y[lo:hi]
	}
	return a.dst[lo:hi], a.x[lo:hi], y
}

// rowArgs are the operands of a loop over rows of width elements; a block of
// rows is one iteration.
type rowArgs struct {
	set           kernel.Set
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
	d, x, _ := a.span(i)
	copy(d, x)
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
	b.tasks.add.run(b.pool, spans(len(d)), vecArgs{set: b.set, dst: d, x: f32("Add", x), y: f32("Add", y)})
}

func addSpan(a *vecArgs, i int) {
	d, x, y := a.span(i)
	a.set.Add(d, x, y)
}

// AddScaled is dst = dst + alpha a.
func (b *Backend) AddScaled(dst, x tensor.Tensor, alpha float32) {
	same("AddScaled", dst, x)
	d := f32("AddScaled", dst)
	b.tasks.blend.run(b.pool, spans(len(d)), vecArgs{set: b.set, dst: d, x: d, y: f32("AddScaled", x), alpha: 1, beta: alpha})
}

func blendSpan(a *vecArgs, i int) {
	d, x, y := a.span(i)
	a.set.Blend(d, x, y, a.alpha, a.beta)
}

// Scale is dst = alpha a.
func (b *Backend) Scale(dst, x tensor.Tensor, alpha float32) {
	same("Scale", dst, x)
	d := f32("Scale", dst)
	b.tasks.scale.run(b.pool, spans(len(d)), vecArgs{set: b.set, dst: d, x: f32("Scale", x), alpha: alpha})
}

func scaleSpan(a *vecArgs, i int) {
	d, x, _ := a.span(i)
	a.set.Scale(d, x, a.alpha)
}

// SiLU is dst = x sigmoid(x).
func (b *Backend) SiLU(dst, x tensor.Tensor) {
	same("SiLU", dst, x)
	d := f32("SiLU", dst)
	b.tasks.silu.run(b.pool, spans(len(d)), vecArgs{set: b.set, dst: d, x: f32("SiLU", x)})
}

func siluSpan(a *vecArgs, i int) {
	d, x, _ := a.span(i)
	a.set.SiLU(d, x)
}

// SiLUGrad is dx = dy d silu(x)/dx.
func (b *Backend) SiLUGrad(dx, dy, x tensor.Tensor) {
	same("SiLUGrad", dx, dy)
	same("SiLUGrad", dx, x)
	d := f32("SiLUGrad", dx)
	b.tasks.siluGrad.run(b.pool, spans(len(d)), vecArgs{set: b.set, dst: d, x: f32("SiLUGrad", x), y: f32("SiLUGrad", dy)})
}

func siluGradSpan(a *vecArgs, i int) {
	d, x, y := a.span(i)
	a.set.SiLUGrad(d, x, y)
}

// AddChannels is dst[n,...,c] = x[n,...,c] + e[n,c], or + e[c].
func (b *Backend) AddChannels(dst, x, e tensor.Tensor) {
	const op = "AddChannels"
	same(op, dst, x)
	n, c := shapes.Rows(x.Shape)
	a, iterations := newRows(n, c)
	a.set, a.dst, a.x, a.y, a.per = b.set, f32(op, dst), f32(op, x), f32(op, e), n
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
		a.set.Add(a.dst[r*a.width:][:a.width], a.x[r*a.width:], a.y[r/a.per*a.width:])
	}
}

// joint checks the shapes of Concat and Split: whole is [..., ca+cb].
func joint(op string, whole, x, y tensor.Tensor) rowArgs {
	n, c := shapes.Rows(whole.Shape)
	nx, cx := shapes.Rows(x.Shape)
	ny, cy := shapes.Rows(y.Shape)
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
	set                  kernel.Set
	dst, x0, eps, ca, cb []float32
	per                  int
}

// QSample is dst[n,...] = ca[n] x0[n,...] + cb[n] eps[n,...].
func (b *Backend) QSample(dst, x0, eps, ca, cb tensor.Tensor) {
	const op = "QSample"
	same(op, dst, x0)
	same(op, dst, eps)
	n, per := shapes.Samples(dst.Shape)
	want(op, "ca", ca, tensor.Of(n))
	want(op, "cb", cb, tensor.Of(n))
	b.tasks.qSample.run(b.pool, n, qSampleArgs{
		b.set, f32(op, dst), f32(op, x0), f32(op, eps), f32(op, ca), f32(op, cb), per,
	})
}

func qSampleOne(a *qSampleArgs, n int) {
	lo, hi := n*a.per, (n+1)*a.per
	a.set.Blend(a.dst[lo:hi], a.x0[lo:hi], a.eps[lo:hi], a.ca[n], a.cb[n])
}

// span is the number of elements of one iteration of an elementwise loop: 64
// KiB an operand.
const span = 16 << 10

// spans is the number of iterations for n elements.
func spans(n int) int { return (n + span - 1) / span }

// bounds are the elements of iteration i.
func bounds(i, n int) (lo, hi int) { return i * span, min((i+1)*span, n) }
