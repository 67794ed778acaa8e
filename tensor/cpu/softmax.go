package cpu

import (
	"math"

	"github.com/agrdist/agrdist/tensor"
)

type softmaxArgs struct {
	dst, y, dy []float32
	scale      float32
	rowArgs
}

// Softmax is y = softmax(scale x) over the last dimension.
func (b *Backend) Softmax(y, x tensor.Tensor, scale float32) {
	same("Softmax", y, x)
	r, iterations := newRows(rows(x.Shape))
	b.tasks.softmax.run(b.pool, iterations, softmaxArgs{
		dst: f32("Softmax", y), y: f32("Softmax", x), scale: scale, rowArgs: r,
	})
}

func softmaxRows(a *softmaxArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		x, y := a.y[r*a.width:][:a.width], a.dst[r*a.width:][:a.width]
		top := float32(math.Inf(-1))
		for _, v := range x {
			if u := a.scale * v; u > top {
				top = u
			}
		}
		var sum float64
		for j, v := range x {
			e := float32(math.Exp(float64(a.scale*v - top)))
			y[j] = e
			sum += float64(e)
		}
		inv := float32(1 / sum)
		for j := range y {
			y[j] *= inv
		}
	}
}

// SoftmaxGrad is dx = scale y (dy - sum(dy y)).
func (b *Backend) SoftmaxGrad(dx, dy, y tensor.Tensor, scale float32) {
	const op = "SoftmaxGrad"
	same(op, dx, dy)
	same(op, dx, y)
	r, iterations := newRows(rows(y.Shape))
	b.tasks.softmaxGrad.run(b.pool, iterations, softmaxArgs{f32(op, dx), f32(op, y), f32(op, dy), scale, r})
}

func softmaxGradRows(a *softmaxArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		y, dy, dx := a.y[r*a.width:][:a.width], a.dy[r*a.width:][:a.width], a.dst[r*a.width:][:a.width]
		var sum float64
		for j := range y {
			sum += float64(dy[j]) * float64(y[j])
		}
		s := float32(sum)
		for j := range y {
			dx[j] = a.scale * y[j] * (dy[j] - s)
		}
	}
}
