//go:build cuda

package cuda

import (
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// softmaxWarps is how many rows a block of threads has.
const softmaxWarps = 4

// Softmax is y = softmax(scale x) over the last dimension.
func (b *Backend) Softmax(y, x tensor.Tensor, scale float32) {
	const op = "Softmax"
	same(op, y, x)
	n, width := shapes.Rows(x.Shape)
	dt := b.activation(op, y)
	b.launch(b.kernels.softmax.of(dt), grid{ceil(n, softmaxWarps), 1}, 32*softmaxWarps, at(b.values(op, y, dt)),
		at(b.values(op, x, dt)), intArg(n), intArg(width), f32arg(scale))
}

// SoftmaxGrad is dx = scale y (dy - sum(dy y)).
func (b *Backend) SoftmaxGrad(dx, dy, y tensor.Tensor, scale float32) {
	const op = "SoftmaxGrad"
	same(op, dx, dy)
	same(op, dx, y)
	n, width := shapes.Rows(y.Shape)
	dt := b.activation(op, dx)
	b.launch(b.kernels.softmaxGrad.of(dt), grid{ceil(n, softmaxWarps), 1}, 32*softmaxWarps, at(b.values(op, dx, dt)),
		at(b.values(op, dy, dt)), at(b.values(op, y, dt)), intArg(n), intArg(width), f32arg(scale))
}
