package gradcheck

import (
	"math"

	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
)

// SumChannels sums into dst [C] or [N,C].
func (Backend) SumChannels(dst, x tensor.Tensor) {
	y, p := f(dst), f(x)
	clear(y)
	c, perSample := x.Shape.Dim(-1), len(p)/x.Shape.Dim(0)
	for i, v := range p {
		row := 0
		if dst.Shape.Rank() == 2 {
			row = i / perSample
		}
		y[row*c+i%c] += v
	}
}

// MSE is the sum of squares per sample and its gradient.
func (Backend) MSE(loss, dpred, pred, target tensor.Tensor, scale float32) {
	y, p, q := f(loss), f(pred), f(target)
	clear(y)
	per := len(p) / len(y)
	for i := range p {
		d := p[i] - q[i]
		y[i/per] += d * d
		if dpred.Present() {
			f(dpred)[i] = 2 * float64(scale) * d
		}
	}
}

// Normal fills with the values of package rng.
func (Backend) Normal(dst, draws tensor.Tensor, seed uint64, stream uint32) {
	y := f(dst)
	per := len(y) / dst.Shape.Dim(0)
	values := make([]float32, per)
	for n := range ints(draws) {
		rng.New(seed, rng.Stream(stream)).Normal(values, drawOf(draws, n))
		for i, v := range values {
			y[n*per+i] = float64(v)
		}
	}
}

// drawOf is the draw of a sample as package rng counts it.
func drawOf(draws tensor.Tensor, n int) uint64 {
	return uint64(ints(draws)[n])
}

// Dropout keeps element j of a sample when word j >= round(p 2^32).
func (Backend) Dropout(dst, x, draws tensor.Tensor, p float32, seed uint64, stream uint32) {
	y, v := f(dst), f(x)
	per := len(y) / dst.Shape.Dim(0)
	src := rng.New(seed, rng.Stream(stream))
	for n := range ints(draws) {
		for j := range per {
			word := src.Block(drawOf(draws, n), uint32(j/4))[j%4]
			keep := 0.0
			if float64(word) >= math.Round(float64(p)*(1<<32)) {
				keep = 1 / (1 - float64(p))
			}
			y[n*per+j] = v[n*per+j] * keep
		}
	}
}

// MatMul is alpha op(a) op(b) + beta dst.
func (Backend) MatMul(dst, a, b tensor.Tensor, args tensor.MatMulArgs) {
	pairs := 1
	if dst.Shape.Rank() == 3 {
		pairs = dst.Shape.Dim(0)
	}
	m, n := dst.Shape.Dim(-2), dst.Shape.Dim(-1)
	k := a.Shape.Dim(-1)
	aRow, aCol := k, 1
	if args.TransA {
		k = a.Shape.Dim(-2)
		aRow, aCol = 1, m
	}
	bRow, bCol := n, 1
	if args.TransB {
		bRow, bCol = 1, k
	}
	for p := range pairs {
		y, x, w := f(dst)[p*m*n:], f(a)[p*m*k:], f(b)[p*k*n:]
		for i := range m {
			for j := range n {
				s := 0.0
				for l := range k {
					s += x[i*aRow+l*aCol] * w[l*bRow+j*bCol]
				}
				s *= float64(args.Alpha)
				if args.Beta != 0 {
					s += float64(args.Beta) * y[i*n+j]
				}
				y[i*n+j] = s
			}
		}
	}
}

// Softmax is over the last dimension.
func (Backend) Softmax(y, x tensor.Tensor, scale float32) {
	c := x.Shape.Dim(-1)
	for r := range len(f(x)) / c {
		out, in := f(y)[r*c:(r+1)*c], f(x)[r*c:(r+1)*c]
		top, sum := math.Inf(-1), 0.0
		for _, v := range in {
			top = max(top, float64(scale)*v)
		}
		for i, v := range in {
			out[i] = math.Exp(float64(scale)*v - top)
			sum += out[i]
		}
		for i := range out {
			out[i] /= sum
		}
	}
}

// SoftmaxGrad is scale y (dy - sum(dy y)).
func (Backend) SoftmaxGrad(dx, dy, y tensor.Tensor, scale float32) {
	c := y.Shape.Dim(-1)
	for r := range len(f(y)) / c {
		g, p, out := f(dy)[r*c:(r+1)*c], f(y)[r*c:(r+1)*c], f(dx)[r*c:(r+1)*c]
		dot := 0.0
		for i := range p {
			dot += g[i] * p[i]
		}
		for i := range p {
			out[i] = float64(scale) * p[i] * (g[i] - dot)
		}
	}
}
