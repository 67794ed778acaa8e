package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// geometry is a convolution's sizes: x [n,ih,iw,ci], y [n,oh,ow,co].
type geometry struct {
	n, ih, iw, ci, oh, ow, co int
	tensor.Conv
}

func newGeometry(op string, x, weight, y tensor.Tensor, c tensor.Conv) geometry {
	rank(op, "x", x, 4)
	rank(op, "y", y, 4)
	rank(op, "w", weight, 4)
	if (c.Kernel != 1 && c.Kernel != 3) || (c.Stride != 1 && c.Stride != 2) || c.PadLo < 0 || c.PadHi < 0 {
		panic(fmt.Sprintf("cpu: %s: unsupported convolution %+v", op, c))
	}
	g := geometry{
		n: x.Shape.Dim(0), ih: x.Shape.Dim(1), iw: x.Shape.Dim(2), ci: x.Shape.Dim(3),
		co: y.Shape.Dim(3), Conv: c,
	}
	if min(g.ih, g.iw)+c.PadLo+c.PadHi < c.Kernel {
		panic(fmt.Sprintf("cpu: %s: x %v is smaller than the kernel of %+v", op, x.Shape, c))
	}
	g.oh, g.ow = c.OutSize(g.ih), c.OutSize(g.iw)
	want(op, "y", y, tensor.Of(g.n, g.oh, g.ow, g.co))
	want(op, "w", weight, tensor.Of(c.Kernel, c.Kernel, g.ci, g.co))
	return g
}

type convArgs struct {
	y, x, w, bias, per, res []float32
	geometry
}

// Conv2D is y = conv(x, w) + bias [+ e[n,:]] [+ residual].
func (b *Backend) Conv2D(y, x, w, bias, perSample, residual tensor.Tensor, c tensor.Conv) {
	const op = "Conv2D"
	g := newGeometry(op, x, w, y, c)
	if bias.Present() {
		want(op, "bias", bias, tensor.Of(g.co))
	}
	if perSample.Present() {
		want(op, "perSample", perSample, tensor.Of(g.n, g.co))
	}
	if residual.Present() {
		same(op, residual, y)
	}
	b.tasks.conv.run(b.pool, g.n*g.oh, convArgs{
		f32(op, y), f32(op, x), f32(op, w), optional(op, bias), optional(op, perSample), optional(op, residual), g,
	})
}

func convRow(a *convArgs, i int) {
	n, oy := i/a.oh, i%a.oh
	for ox := range a.ow {
		at := (i*a.ow + ox) * a.co
		y := a.y[at:][:a.co]
		for j := range y {
			var v float32
			if a.bias != nil {
				v = a.bias[j]
			}
			if a.per != nil {
				v += a.per[n*a.co+j]
			}
			if a.res != nil {
				v += a.res[at+j]
			}
			y[j] = v
		}
		for t := range a.Kernel * a.Kernel {
			iy, ix := oy*a.Stride+t/a.Kernel-a.PadLo, ox*a.Stride+t%a.Kernel-a.PadLo
			if iy < 0 || iy >= a.ih || ix < 0 || ix >= a.iw {
				continue
			}
			for k, v := range a.x[((n*a.ih+iy)*a.iw+ix)*a.ci:][:a.ci] {
				for j, u := range a.weightRow(t, k) {
					y[j] += v * u
				}
			}
		}
	}
}

// weightRow is the weight's row of tap t and input channel k.
func (a *convArgs) weightRow(t, k int) []float32 { return a.w[(t*a.ci+k)*a.co:][:a.co] }

// Conv2DInputGrad is dx of conv for dy.
func (b *Backend) Conv2DInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DInputGrad"
	g := newGeometry(op, dx, w, dy, c)
	b.tasks.convInputGrad.run(b.pool, g.n*g.ih, convArgs{y: f32(op, dy), x: f32(op, dx), w: f32(op, w), geometry: g})
}

func convInputGradRow(a *convArgs, i int) {
	n, iy := i/a.ih, i%a.ih
	for ix := range a.iw {
		dx := a.x[(i*a.iw+ix)*a.ci:][:a.ci]
		clear(dx)
		for t := range a.Kernel * a.Kernel {
			py, px := iy+a.PadLo-t/a.Kernel, ix+a.PadLo-t%a.Kernel
			if py < 0 || px < 0 || py%a.Stride != 0 || px%a.Stride != 0 || py/a.Stride >= a.oh || px/a.Stride >= a.ow {
				continue
			}
			dy := a.y[((n*a.oh+py/a.Stride)*a.ow+px/a.Stride)*a.co:][:a.co]
			for k := range dx {
				var sum float32
				for j, u := range a.weightRow(t, k) {
					sum += u * dy[j]
				}
				dx[k] += sum
			}
		}
	}
}

// Conv2DWeightGrad is dw of conv for dy, and db = the sum of dy.
func (b *Backend) Conv2DWeightGrad(dw, db, x, dy tensor.Tensor, c tensor.Conv) {
	const op = "Conv2DWeightGrad"
	g := newGeometry(op, x, dw, dy, c)
	b.tasks.convWeightGrad.run(b.pool, g.Kernel*g.Kernel*g.ci, convArgs{
		y: f32(op, dy), x: f32(op, x), w: f32(op, dw), geometry: g,
	})
	if db.Present() {
		want(op, "db", db, tensor.Of(g.co))
		b.SumChannels(db, dy)
	}
}

func convWeightGradRow(a *convArgs, i int) {
	t, k := i/a.ci, i%a.ci
	dw := a.weightRow(t, k)
	clear(dw)
	for n := range a.n {
		for oy := range a.oh {
			iy := oy*a.Stride + t/a.Kernel - a.PadLo
			if iy < 0 || iy >= a.ih {
				continue
			}
			for ox := range a.ow {
				ix := ox*a.Stride + t%a.Kernel - a.PadLo
				if ix < 0 || ix >= a.iw {
					continue
				}
				v := a.x[((n*a.ih+iy)*a.iw+ix)*a.ci+k]
				for j, u := range a.y[((n*a.oh+oy)*a.ow+ox)*a.co:][:a.co] {
					dw[j] += v * u
				}
			}
		}
	}
}
