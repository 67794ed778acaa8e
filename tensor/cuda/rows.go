//go:build cuda

package cuda

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// maxPlaces is where kernels that divide places in 32 bits end.
const maxPlaces = 1 << 32

func places(op string, s tensor.Shape) int {
	n := s.Len()
	if n >= maxPlaces {
		panic(fmt.Sprintf("cuda: %s: %v has 2^32 elements or more", op, s))
	}
	return n
}

// AddChannels is dst[n,...,c] = x[n,...,c] + e[n,c], or + e[c]. With BF16
// activations e may be F32 (a bias) or BF16.
func (b *Backend) AddChannels(dst, x, e tensor.Tensor) {
	const op = "AddChannels"
	same(op, dst, x)
	n, c := shapes.Rows(x.Shape)
	per := n * c
	if e.Shape.Rank() == 2 {
		batch := x.Shape.Dim(0)
		want(op, "e", e, tensor.Of(batch, c))
		per = n / max(1, batch) * c
	} else {
		want(op, "e", e, tensor.Of(c))
	}
	dt := b.activation(op, dst)
	k, add := b.kernels.addChannels.of(dt), b.operand(op, e, tensor.F32, dt)
	if add.dtype == tensor.BF16 {
		k = &b.kernels.addChannelsBF16
	}
	b.launch(k, spans(places(op, x.Shape), dt), elementThreads, at(b.values(op, dst, dt)), at(b.values(op, x, dt)),
		at(add.ptr), intArg(n*c), intArg(per), intArg(c))
}

// Concat is dst = [a, b] along the last dimension.
func (b *Backend) Concat(dst, x, y tensor.Tensor) { b.join("Concat", &b.kernels.concat, dst, x, y) }

// Split undoes Concat.
func (b *Backend) Split(dx, dy, src tensor.Tensor) { b.join("Split", &b.kernels.split, src, dx, dy) }

// join checks the shapes of Concat and Split: whole is [..., ca+cb].
func (b *Backend) join(op string, k *pair, whole, x, y tensor.Tensor) {
	n, c := shapes.Rows(whole.Shape)
	nx, cx := shapes.Rows(x.Shape)
	ny, cy := shapes.Rows(y.Shape)
	ok := whole.Shape.Rank() == x.Shape.Rank() && x.Shape.Rank() == y.Shape.Rank()
	if !ok || n != nx || n != ny || c != cx+cy {
		panic(fmt.Sprintf("cuda: %s: %v is not %v beside %v", op, whole.Shape, x.Shape, y.Shape))
	}
	dt := b.activation(op, whole)
	b.launch(k.of(dt), spans(places(op, whole.Shape), dt), elementThreads, at(b.values(op, whole, dt)),
		at(b.values(op, x, dt)), at(b.values(op, y, dt)), intArg(n*c), intArg(cx), intArg(cy))
}

// QSample is dst[n,...] = ca[n] x0[n,...] + cb[n] eps[n,...].
func (b *Backend) QSample(dst, x0, eps, ca, cb tensor.Tensor) {
	const op = "QSample"
	same(op, dst, x0)
	same(op, dst, eps)
	n, per := shapes.Samples(dst.Shape)
	want(op, "ca", ca, tensor.Of(n))
	want(op, "cb", cb, tensor.Of(n))
	dt := b.activation(op, dst)
	b.launch(b.kernels.qSample.of(dt), spans(places(op, dst.Shape), dt), elementThreads, at(b.values(op, dst, dt)),
		at(b.values(op, x0, dt)), at(b.values(op, eps, dt)), at(b.f32(op, ca)), at(b.f32(op, cb)), intArg(n*per), intArg(per))
}

// Upsample is nearest-neighbour enlargement by 2.
func (b *Backend) Upsample(y, x tensor.Tensor) {
	b.resample("Upsample", &b.kernels.upsample, y, x, y, x)
}

// UpsampleGrad is dx = the sum of the four dy of each x.
func (b *Backend) UpsampleGrad(dx, dy tensor.Tensor) {
	b.resample("UpsampleGrad", &b.kernels.upsampleGrad, dx, dy, dy, dx)
}

func (b *Backend) resample(op string, k *pair, dst, src, large, small tensor.Tensor) {
	rank(op, "x", small, 4)
	s := small.Shape
	want(op, "y", large, tensor.Of(s.Dim(0), 2*s.Dim(1), 2*s.Dim(2), s.Dim(3)))
	dt := b.activation(op, dst)
	b.launch(k.of(dt), spans(places(op, s), dt), elementThreads, at(b.values(op, dst, dt)), at(b.values(op, src, dt)),
		intArg(s.Len()), intArg(s.Dim(2)), intArg(s.Dim(3)))
}

// TimestepEmbedding is the sinusoidal embedding of t. An odd last column is
// zero.
func (b *Backend) TimestepEmbedding(dst, t tensor.Tensor, freqShift int, flip bool) {
	const op = "TimestepEmbedding"
	rank(op, "dst", dst, 2)
	n, dim := dst.Shape.Dim(0), dst.Shape.Dim(1)
	want(op, "t", t, tensor.Of(n))
	half := dim / 2
	if half > 0 && half <= freqShift {
		panic(fmt.Sprintf("cuda: %s: %v with frequency shift %d", op, dst.Shape, freqShift))
	}
	sin, cos := 0, half
	if flip {
		sin, cos = half, 0
	}
	const threads = 128
	dt := b.activation(op, dst)
	b.launch(b.kernels.embed.of(dt), grid{ceil(n*(half+dim%2), threads), 1}, threads, at(b.values(op, dst, dt)),
		at(b.i64(op, t)), intArg(n), intArg(dim), intArg(freqShift), intArg(sin), intArg(cos))
}
