//go:build cuda

package cuda

import (
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

const (
	sumThreads = 256
	sumVectors = 32 // of a row at most, in a block of threads
	sumBlock   = 512
	// maxSumBlocks bounds what the second step adds.
	maxSumBlocks = 512
)

// columns is the shape of a sum over rows: parts x [rows, c].
type columns struct{ parts, rows, c int }

// block is how many rows a block of the first step adds.
func (s columns) block() int { return max(sumBlock, ceil(s.rows, maxSumBlocks)) }

// tile is how many columns a block of threads has.
func (s columns) tile(dt tensor.DType) int {
	v := vector(dt)
	if s.c%v != 0 {
		return min(s.c, sumVectors)
	}
	return min(s.c, sumVectors*v)
}

// SumChannels is dst[c], or dst[n,c], = sum of x[...,c]. dst is F32, or like x.
func (b *Backend) SumChannels(dst, x tensor.Tensor) {
	const op = "SumChannels"
	n, c := shapes.Rows(x.Shape)
	s := columns{parts: 1, rows: n, c: c}
	if dst.Shape.Rank() == 2 {
		s.parts = x.Shape.Dim(0)
		s.rows = n / max(1, s.parts)
		want(op, "dst", dst, tensor.Of(s.parts, c))
	} else {
		want(op, "dst", dst, tensor.Of(c))
	}
	dt := b.activation(op, x)
	out := b.operand(op, dst, tensor.F32, dt)
	if s.parts == 0 || c == 0 {
		return
	}
	if n == 0 {
		b.Fill(dst, 0)
		return
	}
	blocks := ceil(s.rows, s.block())
	if blocks == 1 && out.dtype == tensor.F32 {
		b.sumColumns(b.kernels.sumColumns.of(dt), out.ptr, b.values(op, x, dt), s, dt)
		return
	}
	partial, ok := b.scratch(int64(4 * s.parts * blocks * c))
	if !ok {
		return
	}
	b.sumColumns(b.kernels.sumColumns.of(dt), partial, b.values(op, x, dt), s, dt)
	last := b.kernels.sumColumns.of(tensor.F32)
	if out.dtype == tensor.BF16 {
		last = &b.kernels.sumColumnsBF16
	}
	b.sumColumns(last, out.ptr, partial, columns{s.parts, blocks, c}, tensor.F32)
}

// sumColumns is one step of a sum: out [parts, blocks, c].
func (b *Backend) sumColumns(k *kernel, out, x cu.DevicePtr, s columns, dt tensor.DType) {
	blocks, tile := ceil(s.rows, s.block()), s.tile(dt)
	b.launch(k, grid{s.parts * blocks * ceil(s.c, tile), 1}, sumThreads, at(out), at(x),
		intArg(s.rows), intArg(s.c), intArg(s.block()), intArg(tile))
}

// MSE is loss[n] = sum of (pred-target)^2 over sample n, and dpred = 2 scale
// (pred-target).
func (b *Backend) MSE(loss, dpred, pred, target tensor.Tensor, scale float32) {
	const op = "MSE"
	same(op, pred, target)
	n, per := shapes.Samples(pred.Shape)
	want(op, "loss", loss, tensor.Of(n))
	dt := b.activation(op, pred)
	var grad cu.DevicePtr
	if dpred.Present() {
		same(op, dpred, pred)
		grad = b.values(op, dpred, dt)
	}
	b.launch(b.kernels.mse.of(dt), grid{n, 1}, sumThreads, at(b.f32(op, loss)), at(grad), at(b.values(op, pred, dt)),
		at(b.values(op, target, dt)), intArg(per), f32arg(scale))
}
