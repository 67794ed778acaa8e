package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/internal/portable"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

type resampleArgs struct {
	set          kernel.Set
	large, small []float32
	w, c         int // of the small map
}

func (b *Backend) newResample(op string, large, small tensor.Tensor) (a resampleArgs, n int) {
	rank(op, "x", small, 4)
	s := small.Shape
	want(op, "y", large, tensor.Of(s.Dim(0), 2*s.Dim(1), 2*s.Dim(2), s.Dim(3)))
	return resampleArgs{b.set, f32(op, large), f32(op, small), s.Dim(2), s.Dim(3)}, s.Dim(0) * s.Dim(1)
}

// Upsample is nearest-neighbour enlargement by 2.
func (b *Backend) Upsample(y, x tensor.Tensor) {
	a, n := b.newResample("Upsample", y, x)
	b.tasks.upsample.run(b.pool, n, a)
}

// upsampleRow writes the two rows of y that row i of x becomes.
func upsampleRow(a *resampleArgs, i int) {
	row := 2 * a.w * a.c
	y := a.large[2*i*row:][:2*row]
	for p := range a.w {
		x := a.small[(i*a.w+p)*a.c:][:a.c]
		copy(y[2*p*a.c:], x)
		copy(y[(2*p+1)*a.c:], x)
	}
	copy(y[row:], y[:row])
}

// UpsampleGrad is dx = the sum of the four dy of each x.
func (b *Backend) UpsampleGrad(dx, dy tensor.Tensor) {
	a, n := b.newResample("UpsampleGrad", dy, dx)
	b.tasks.upsampleGrad.run(b.pool, n, a)
}

func upsampleGradRow(a *resampleArgs, i int) {
	row := 2 * a.w * a.c
	dy := a.large[2*i*row:][:2*row]
	for p := range a.w {
		dx := a.small[(i*a.w+p)*a.c:][:a.c]
		q := dy[2*p*a.c:]
		a.set.Add(dx, q, q[a.c:])
		a.set.Add(dx, dx, q[row:])
		a.set.Add(dx, dx, q[row+a.c:])
	}
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
		panic(fmt.Sprintf("cpu: %s: %v with frequency shift %d", op, dst.Shape, freqShift))
	}
	d, steps := f32(op, dst), i64(op, t)
	sin, cos := 0, half
	if flip {
		sin, cos = half, 0
	}
	clear(d)
	for k := range half {
		freq := portable.Pow(10000, -float64(k)/float64(half-freqShift))
		for i, step := range steps {
			s, c := portable.Sincos(float64(step) * freq)
			d[i*dim+sin+k], d[i*dim+cos+k] = float32(s), float32(c)
		}
	}
}
