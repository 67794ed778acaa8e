package cpu

import "github.com/agrdist/agrdist/tensor"

// scaleShift are checked operands of ScaleShift and its gradient. There is one element
// a sample and channel, thousands of times fewer than a network's activations, so the
// loops are plain ones of one thread. Products are rounded before they are added, so
// that every processor gives the same bits.
type scaleShift struct {
	n, c           int
	gamma, beta, e []float32
}

func newScaleShift(op string, gammas, betas, gamma, beta, e tensor.Tensor) scaleShift {
	n, c := gammas.Shape.Dim(0), gammas.Shape.Dim(-1)
	want(op, "gammas", gammas, tensor.Of(n, c))
	want(op, "betas", betas, tensor.Of(n, c))
	want(op, "gamma", gamma, tensor.Of(c))
	want(op, "beta", beta, tensor.Of(c))
	want(op, "e", e, tensor.Of(n, 2*c))
	return scaleShift{n, c, f32(op, gamma), f32(op, beta), f32(op, e)}
}

// sample is the scale and the shift of sample n.
func (a *scaleShift) sample(n int) (s, t []float32) {
	row := a.e[2*n*a.c:][:2*a.c]
	return row[:a.c], row[a.c:]
}

// ScaleShift is gammas = gamma (1 + s) and betas = beta (1 + s) + t.
func (b *Backend) ScaleShift(gammas, betas, gamma, beta, e tensor.Tensor) {
	const op = "ScaleShift"
	a := newScaleShift(op, gammas, betas, gamma, beta, e)
	gs, bs := f32(op, gammas), f32(op, betas)
	for n := range a.n {
		s, t := a.sample(n)
		for j := range s {
			k := 1 + s[j]
			gs[n*a.c+j] = a.gamma[j] * k
			bs[n*a.c+j] = float32(a.beta[j]*k) + t[j]
		}
	}
}

// ScaleShiftGrad gives dgamma, dbeta and de. Sums over the samples are in their order
// and in float64.
func (b *Backend) ScaleShiftGrad(dgamma, dbeta, de, dgammas, dbetas, gamma, beta, e tensor.Tensor) {
	const op = "ScaleShiftGrad"
	a := newScaleShift(op, dgammas, dbetas, gamma, beta, e)
	want(op, "dgamma", dgamma, gamma.Shape)
	want(op, "dbeta", dbeta, beta.Shape)
	want(op, "de", de, e.Shape)
	dg, db, out := f32(op, dgamma), f32(op, dbeta), f32(op, de)
	gs, bs := f32(op, dgammas), f32(op, dbetas)
	for j := range a.c {
		var g, h float64
		for n := range a.n {
			k, i := 1+a.e[2*n*a.c+j], n*a.c+j
			g += float64(float64(gs[i]) * float64(k))
			h += float64(float64(bs[i]) * float64(k))
			out[2*n*a.c+j] = float32(gs[i]*a.gamma[j]) + float32(bs[i]*a.beta[j])
			out[(2*n+1)*a.c+j] = bs[i]
		}
		dg[j], db[j] = float32(g), float32(h)
	}
}
