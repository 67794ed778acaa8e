//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// Blocks of the elementwise kernels.
const (
	elementThreads = 256
	elementUnroll  = 4 // vectors a thread
)

// spans is the grid for n elements of a type.
func spans(n int, dt tensor.DType) grid {
	return grid{ceil(n, elementThreads*elementUnroll*vector(dt)), 1}
}

func at(p cu.DevicePtr) uint64 { return uint64(p) }

// Copy is dst = a, converting between F32 and BF16.
func (b *Backend) Copy(dst, a tensor.Tensor) { b.copyBy(&b.queue, dst, a) }

func (b *Backend) copyBy(q *queue, dst, a tensor.Tensor) {
	const op = "Copy"
	same(op, dst, a)
	d, s := b.operand(op, dst, tensor.F32, tensor.BF16, tensor.I64), b.operand(op, a, tensor.F32, tensor.BF16, tensor.I64)
	n := a.Shape.Len()
	if n == 0 {
		return
	}
	switch {
	case d.dtype == s.dtype && d.ptr == s.ptr: // a rank alone sums its gradient in place
	case d.dtype == s.dtype:
		q.enter()
		defer q.leave()
		q.check(op, q.copyWithin(d.ptr, s.ptr, int64(n*d.dtype.Size())))
	case d.dtype == tensor.F32 && s.dtype == tensor.BF16:
		q.launch(&b.kernels.widen, spans(n, tensor.BF16), elementThreads, at(d.ptr), at(s.ptr), intArg(n))
	case d.dtype == tensor.BF16 && s.dtype == tensor.F32:
		q.launch(&b.kernels.narrow, spans(n, tensor.BF16), elementThreads, at(d.ptr), at(s.ptr), intArg(n))
	default:
		panic(fmt.Sprintf("cuda: Copy of %v to %v", s.dtype, d.dtype))
	}
}

// Fill is dst = v.
func (b *Backend) Fill(dst tensor.Tensor, v float32) { b.fillBy(&b.queue, dst, v) }

func (b *Backend) fillBy(q *queue, dst tensor.Tensor, v float32) {
	d := b.operand("Fill", dst, tensor.F32, tensor.BF16)
	n := dst.Shape.Len()
	q.launch(b.kernels.fill.of(d.dtype), spans(n, d.dtype), elementThreads, at(d.ptr), intArg(n), f32arg(v))
}

// Add is dst = a + b.
func (b *Backend) Add(dst, x, y tensor.Tensor) { b.addBy(&b.queue, dst, x, y) }

func (b *Backend) addBy(q *queue, dst, x, y tensor.Tensor) {
	const op = "Add"
	same(op, dst, x)
	same(op, dst, y)
	dt, n := b.activation(op, dst), dst.Shape.Len()
	q.launch(b.kernels.add.of(dt), spans(n, dt), elementThreads,
		at(b.values(op, dst, dt)), at(b.values(op, x, dt)), at(b.values(op, y, dt)), intArg(n))
}

// AddScaled is dst = dst + alpha a.
func (b *Backend) AddScaled(dst, x tensor.Tensor, alpha float32) {
	b.map1("AddScaled", &b.kernels.addScaled, dst, x, alpha)
}

// Scale is dst = alpha a.
func (b *Backend) Scale(dst, x tensor.Tensor, alpha float32) {
	b.map1("Scale", &b.kernels.scale, dst, x, alpha)
}

// SiLU is dst = x sigmoid(x).
func (b *Backend) SiLU(dst, x tensor.Tensor) { b.map1("SiLU", &b.kernels.silu, dst, x, 0) }

// map1 runs a kernel of (dst, x, n, alpha); one without alpha leaves it unread.
func (b *Backend) map1(op string, k *pair, dst, x tensor.Tensor, alpha float32) {
	same(op, dst, x)
	dt, n := b.activation(op, dst), dst.Shape.Len()
	b.launch(k.of(dt), spans(n, dt), elementThreads,
		at(b.values(op, dst, dt)), at(b.values(op, x, dt)), intArg(n), f32arg(alpha))
}

// SiLUGrad is dx = dy d silu(x)/dx.
func (b *Backend) SiLUGrad(dx, dy, x tensor.Tensor) {
	const op = "SiLUGrad"
	same(op, dx, dy)
	same(op, dx, x)
	dt, n := b.activation(op, dx), dx.Shape.Len()
	b.launch(b.kernels.siluGrad.of(dt), spans(n, dt), elementThreads,
		at(b.values(op, dx, dt)), at(b.values(op, dy, dt)), at(b.values(op, x, dt)), intArg(n))
}
