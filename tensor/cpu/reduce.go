package cpu

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// columns is the width of a column block of SumChannels.
const columns = 16

type sumArgs struct {
	dst, x        []float32
	per, width    int // rows a sum, columns
	blocksPerSums int
}

// SumChannels is dst[c], or dst[n,c], = sum of x[...,c].
func (b *Backend) SumChannels(dst, x tensor.Tensor) {
	const op = "SumChannels"
	n, c := rows(x.Shape)
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
	blocks := (c + columns - 1) / columns
	b.tasks.sumChannels.run(b.pool, sums*blocks, sumArgs{f32(op, dst), f32(op, x), n / sums, c, blocks})
}

func sumColumns(a *sumArgs, i int) {
	s, lo := i/a.blocksPerSums, i%a.blocksPerSums*columns
	hi := min(lo+columns, a.width)
	var acc [columns]float64
	for r := s * a.per; r < (s+1)*a.per; r++ {
		for j, v := range a.x[r*a.width+lo : r*a.width+hi] {
			acc[j] += float64(v)
		}
	}
	for j := range hi - lo {
		a.dst[s*a.width+lo+j] = float32(acc[j])
	}
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
	n, per := samples(pred.Shape)
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
			sum += float64(e) * float64(e)
		}
	} else {
		d := a.dpred[n*a.per:][:a.per]
		for j := range p {
			e := p[j] - t[j]
			sum += float64(e) * float64(e)
			d[j] = 2 * a.scale * e
		}
	}
	a.loss[n] = float32(sum)
}

// groupSize is C/groups, checked.
func groupSize(op string, c, groups int) int {
	if groups < 1 || c%groups != 0 {
		panic(fmt.Sprintf("cpu: %s: %d channels in %d groups", op, c, groups))
	}
	return c / groups
}
