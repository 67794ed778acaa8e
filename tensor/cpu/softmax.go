package cpu

import (
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

type softmaxArgs struct {
	dst, y, dy []float32
	scale      float32
	rowArgs
}

// Softmax is y = softmax(scale x) over the last dimension.
func (b *Backend) Softmax(y, x tensor.Tensor, scale float32) {
	same("Softmax", y, x)
	r, iterations := newRows(shapes.Rows(x.Shape))
	r.set = b.set
	b.tasks.softmax.run(b.pool, iterations, softmaxArgs{
		dst: f32("Softmax", y), y: f32("Softmax", x), scale: scale, rowArgs: r,
	})
}

func softmaxRows(a *softmaxArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		x, y := a.y[r*a.width:][:a.width], a.dst[r*a.width:][:a.width]
		softmaxRow(a.set, y, x, a.scale)
	}
}

// softmaxRow is y = softmax(scale x).
func softmaxRow(set kernel.Set, y, x []float32, scale float32) {
	sum := set.ExpSum(y, x, scale, set.MaxScaled(x, scale))
	set.Scale(y, y, 1/sum)
}

// SoftmaxGrad is dx = scale y (dy - sum(dy y)).
func (b *Backend) SoftmaxGrad(dx, dy, y tensor.Tensor, scale float32) {
	const op = "SoftmaxGrad"
	same(op, dx, dy)
	same(op, dx, y)
	r, iterations := newRows(shapes.Rows(y.Shape))
	r.set = b.set
	b.tasks.softmaxGrad.run(b.pool, iterations, softmaxArgs{f32(op, dx), f32(op, y), f32(op, dy), scale, r})
}

func softmaxGradRows(a *softmaxArgs, i int) {
	lo, hi := a.bounds(i)
	for r := lo; r < hi; r++ {
		y, dy := a.y[r*a.width:][:a.width], a.dy[r*a.width:][:a.width]
		a.set.SoftmaxGrad(a.dst[r*a.width:][:a.width], dy, y, a.scale, a.set.Dot(dy, y))
	}
}
