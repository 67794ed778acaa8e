package cpu

import (
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/internal/shapes"
)

// sumRows is how many rows are summed in float32; the sums of such blocks are
// added in float64.
const sumRows = 256

type sumArgs struct {
	set     kernel.Set
	partial []float32 // [sums, blocks, width]
	x       []float32
	per     int // rows a sum
	width   int
	blocks  int // a sum
}

// SumChannels is dst[c], or dst[n,c], = sum of x[...,c].
func (b *Backend) SumChannels(dst, x tensor.Tensor) {
	const op = "SumChannels"
	n, c := shapes.Rows(x.Shape)
	sums := 1
	if dst.Shape.Rank() == 2 {
		sums = x.Shape.Dim(0)
		want(op, "dst", dst, tensor.Of(sums, c))
	} else {
		want(op, "dst", dst, tensor.Of(c))
	}
	if sums == 0 {
		return
	}
	d := f32(op, dst)
	a := sumArgs{set: b.set, x: f32(op, x), per: n / sums, width: c}
	a.blocks = (a.per + sumRows - 1) / sumRows
	a.partial = b.scratch.sums.get(sums * a.blocks * c)
	b.tasks.sumChannels.run(b.pool, sums*a.blocks, a)
	for i := range d {
		s, j := i/c, i%c
		var sum float64
		for k := range a.blocks {
			sum += float64(a.partial[(s*a.blocks+k)*c+j])
		}
		d[i] = float32(sum)
	}
}

func sumBlock(a *sumArgs, i int) {
	s, k := i/a.blocks, i%a.blocks
	lo, hi := k*sumRows, min((k+1)*sumRows, a.per)
	a.set.ColSums(&kernel.Grid{
		X: a.x[(s*a.per+lo)*a.width:], Sum: [2][]float32{a.partial[i*a.width:][:a.width]},
		Rows: hi - lo, Cols: a.width, LD: a.width,
	})
}

type mseArgs struct {
	loss, dpred, pred, target []float32
	per                       int
	scale                     float32
}

// MSE is loss[n] = sum of (pred-target)^2 over sample n, summed in float64, and
// dpred = 2 scale (pred-target).
func (b *Backend) MSE(loss, dpred, pred, target tensor.Tensor, scale float32) {
	const op = "MSE"
	same(op, pred, target)
	if dpred.Present() {
		same(op, dpred, pred)
	}
	n, per := shapes.Samples(pred.Shape)
	want(op, "loss", loss, tensor.Of(n))
	b.tasks.mse.run(b.pool, n, mseArgs{
		f32(op, loss), optional(op, dpred), f32(op, pred), f32(op, target), per, scale,
	})
}

func mseOne(a *mseArgs, n int) {
	p, t := a.pred[n*a.per:][:a.per], a.target[n*a.per:][:a.per]
	var sum float64
	if a.dpred == nil {
		for j := range p {
			e := p[j] - t[j]
			sum += float64(e) * float64(e) // exact
		}
	} else {
		d := a.dpred[n*a.per:][:a.per]
		for j := range p {
			e := p[j] - t[j]
			sum += float64(e) * float64(e) // exact
			d[j] = 2 * a.scale * e
		}
	}
	a.loss[n] = float32(sum)
}
