//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/tensor"
)

// geometry is a convolution's sizes: x [n,ih,iw,ci], y [n,oh,ow,co].
type geometry struct {
	n, ih, iw, ci, oh, ow, co int
	tensor.Conv
}

func newGeometry(op string, x, weight, y tensor.Tensor, c tensor.Conv) geometry {
	s := checks.Conv(op, x, weight, y, c)
	return geometry{n: s.N, ih: s.IH, iw: s.IW, ci: s.CI, oh: s.OH, ow: s.OW, co: s.CO, Conv: s.Conv}
}

// taps is the number of pixels under the kernel.
func (g *geometry) taps() int { return g.Kernel * g.Kernel }

// outputs is the number of elements of y.
func (g *geometry) outputs() int { return g.n * g.oh * g.ow * g.co }

// pointwise says that the convolution is a matrix product of the pixels with the
// weight as it lies.
func (g *geometry) pointwise() bool {
	return g.Kernel == 1 && g.Stride == 1 && g.PadLo == 0 && g.PadHi == 0
}

// Conv2D is y = conv(x, w) + bias [+ e[n,:]] [+ residual].
func (b *Backend) Conv2D(y, x, w, bias, perSample, residual tensor.Tensor, c tensor.Conv) {
	const op = "Conv2D"
	v := b.newConvolution(op, cudnn.Forward, newGeometry(op, x, w, y, c), x, w, y)
	var e epilogue
	if bias.Present() {
		want(op, "bias", bias, tensor.Of(v.g.co))
		e.bias = b.f32(op, bias)
	}
	if perSample.Present() {
		want(op, "perSample", perSample, tensor.Of(v.g.n, v.g.co))
		e.perSample = b.f32(op, perSample)
	}
	if residual.Present() {
		same(op, residual, y)
		e.residual = b.values(op, residual, v.y.dtype)
	}
	if v.g.outputs() == 0 {
		return
	}
	v.terms = e != epilogue{}
	b.enter()
	defer b.leave()
	// Where the residual lies in y, y is written only when it has been read.
	if v.compute(e.residual == v.y.ptr) {
		v.finish(&e)
	}
}

// Conv2DInputGrad is dx of conv for dy.
func (b *Backend) Conv2DInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DInputGrad"
	v := b.newConvolution(op, cudnn.InputGrad, newGeometry(op, dx, w, dy, c), dx, w, dy)
	if v.g.outputs() == 0 {
		b.Fill(dx, 0)
		return
	}
	b.enter()
	defer b.leave()
	if v.compute(false) {
		v.storeImage()
	}
}

// Conv2DAddInputGrad adds the gradient to dx, for a pointwise convolution.
func (b *Backend) Conv2DAddInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DAddInputGrad"
	v := b.newConvolution(op, cudnn.InputGrad, newGeometry(op, dx, w, dy, c), dx, w, dy)
	if !v.g.pointwise() {
		panic(fmt.Sprintf("cuda: %s of %+v", op, c))
	}
	if v.g.outputs() == 0 {
		return
	}
	v.adds = true
	b.enter()
	defer b.leave()
	if v.compute(false) {
		v.storeImage()
	}
}

// Conv2DWeightGrad is dw of conv for dy, and db = the sum of dy.
func (b *Backend) Conv2DWeightGrad(dw, db, x, dy tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DWeightGrad"
	v := b.newConvolution(op, cudnn.WeightGrad, newGeometry(op, x, dw, dy, c), x, dw, dy)
	b.f32(op, dw)
	if db.Present() {
		want(op, "db", db, tensor.Of(v.g.co))
		b.SumChannels(db, dy)
	}
	if v.g.outputs() == 0 {
		b.Fill(dw, 0)
		return
	}
	b.enter()
	defer b.leave()
	if v.compute(false) {
		v.storeFilter()
	}
}

// epilogue is what is added to a forward convolution: addresses, 0 where absent.
type epilogue struct{ bias, perSample, residual cu.DevicePtr }
