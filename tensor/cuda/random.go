//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// randomThreads each make a Philox block, four elements.
const randomThreads = 256

// randomGrid is for n samples of per elements.
func randomGrid(n, per int) grid { return grid{ceil(n*ceil(per, 4), randomThreads), 1} }

// Normal fills dst[n,...] with the standard normal sequence of draws[n].
func (b *Backend) Normal(dst, draws tensor.Tensor, seed uint64, stream uint32) {
	const op = "Normal"
	n, per := shapes.Samples(dst.Shape)
	want(op, "draws", draws, tensor.Of(n))
	places(op, dst.Shape)
	dt := b.activation(op, dst)
	b.launch(b.kernels.normal.of(dt), randomGrid(n, per), randomThreads, at(b.values(op, dst, dt)), at(b.i64(op, draws)),
		intArg(n), intArg(per), seed, uint64(stream))
}

// Dropout is dst = x m/(1-p); element j of a sample is kept when word j of its
// sequence is >= round(p 2^32).
func (b *Backend) Dropout(dst, x, draws tensor.Tensor, p float32, seed uint64, stream uint32) {
	const op = "Dropout"
	same(op, dst, x)
	n, per := shapes.Samples(dst.Shape)
	want(op, "draws", draws, tensor.Of(n))
	places(op, dst.Shape)
	limit, keep := threshold(op, p)
	dt := b.activation(op, dst)
	b.launch(b.kernels.dropout.of(dt), randomGrid(n, per), randomThreads, at(b.values(op, dst, dt)), at(b.values(op, x, dt)),
		at(b.i64(op, draws)), intArg(n), intArg(per), seed, uint64(stream), uint64(limit), f32arg(keep))
}

// SamplerStep implements tensor.Sampling.
func (b *Backend) SamplerStep(x, out, none, a, kept, ids tensor.Tensor, k tensor.SamplerStep) {
	const op = "SamplerStep"
	same(op, out, x)
	n, per := shapes.Samples(x.Shape)
	want(op, "ids", ids, tensor.Of(n))
	places(op, x.Shape)
	var optional [3]cu.DevicePtr
	for i, t := range []tensor.Tensor{none, a, kept} {
		if t.Present() {
			same(op, t, x)
			optional[i] = b.f32(op, t)
		}
	}
	if a.Present() != kept.Present() {
		panic("cuda: SamplerStep with one of two tensors that are kept")
	}
	b.launch(&b.kernels.samplerStep, randomGrid(n, per), randomThreads, at(b.f32(op, x)), at(b.f32(op, out)),
		at(optional[0]), at(optional[1]), at(optional[2]), at(b.i64(op, ids)), intArg(n), intArg(per), k.Seed, uint64(k.Stream),
		f64arg(k.Scale), f64arg(k.XX), f64arg(k.XO), f64arg(k.KX0), f64arg(k.KXT), f64arg(k.KOut), f64arg(k.Sigma),
		f64arg(k.KA), f64arg(k.KB), f64arg(k.BX), f64arg(k.B0), boolArg(k.Keeps), boolArg(k.Clip))
}

// threshold is the least word that keeps an element, and the factor of those
// kept.
func threshold(op string, p float32) (limit uint32, keep float32) {
	if !(p >= 0 && p < 1) {
		panic(fmt.Sprintf("cuda: %s with p = %v", op, p))
	}
	return uint32(math.Round(float64(p) * (1 << 32))), 1 / (1 - p) // p < 1 in float32: below 2^32
}
