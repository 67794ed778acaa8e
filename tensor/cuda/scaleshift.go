//go:build cuda

package cuda

import "github.com/agrdist/agrdist/tensor"

// scaleShiftThreads is a block of the kernels in kernels/scaleshift.cu.
const scaleShiftThreads = 256

// scaleShift checks the operands that both directions have.
func scaleShift(op string, gammas, betas, gamma, beta, e tensor.Tensor) (n, c int) {
	n, c = gammas.Shape.Dim(0), gammas.Shape.Dim(-1)
	want(op, "gammas", gammas, tensor.Of(n, c))
	want(op, "betas", betas, tensor.Of(n, c))
	want(op, "gamma", gamma, tensor.Of(c))
	want(op, "beta", beta, tensor.Of(c))
	want(op, "e", e, tensor.Of(n, 2*c))
	return n, c
}

// ScaleShift is gammas = gamma (1 + s) and betas = beta (1 + s) + t.
func (b *Backend) ScaleShift(gammas, betas, gamma, beta, e tensor.Tensor) {
	const op = "ScaleShift"
	n, c := scaleShift(op, gammas, betas, gamma, beta, e)
	b.launch(&b.kernels.scaleShift, grid{ceil(n*c, scaleShiftThreads), 1}, scaleShiftThreads,
		at(b.f32(op, gammas)), at(b.f32(op, betas)), at(b.f32(op, gamma)), at(b.f32(op, beta)), at(b.f32(op, e)),
		intArg(n), intArg(c))
}

// ScaleShiftGrad gives dgamma, dbeta and de.
func (b *Backend) ScaleShiftGrad(dgamma, dbeta, de, dgammas, dbetas, gamma, beta, e tensor.Tensor) {
	const op = "ScaleShiftGrad"
	n, c := scaleShift(op, dgammas, dbetas, gamma, beta, e)
	want(op, "dgamma", dgamma, gamma.Shape)
	want(op, "dbeta", dbeta, beta.Shape)
	want(op, "de", de, e.Shape)
	b.launch(&b.kernels.scaleShiftGrad, grid{ceil(c, 32), 1}, scaleShiftThreads,
		at(b.f32(op, dgamma)), at(b.f32(op, dbeta)), at(b.f32(op, de)), at(b.f32(op, dgammas)), at(b.f32(op, dbetas)),
		at(b.f32(op, gamma)), at(b.f32(op, beta)), at(b.f32(op, e)), intArg(n), intArg(c))
}
