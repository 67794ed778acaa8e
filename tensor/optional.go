package tensor

// Abilities that a backend may have beyond the contract. A caller finds them by type
// assertion; without them it composes the contract's operations, with the same result.

// GroupNormSiLU is implemented by backends that run GroupNorm, SiLU and an
// optional dropout in one pass over memory. gamma and beta are [C] or [N,C], as
// those of GroupNorm. p = 0 means no dropout, and then draws may be absent.
type GroupNormSiLU interface {
	GroupNormSiLU(y, mean, rstd, x, gamma, beta Tensor, groups int, eps float32, drop Dropout)
	// GroupNormSiLUGrad recomputes the normalised value instead of reading a
	// stored one. dx may be dy.
	GroupNormSiLUGrad(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd Tensor, groups int, drop Dropout)
}

// FusedGradients is implemented by backends that add gradients to what is there already,
// and sum them over the pixels, in the operations that compute them: each is a pass over
// memory less.
type FusedGradients interface {
	// GroupNormGradPlus is GroupNormGrad, or GroupNormSiLUGrad where silu is set (else
	// beta may be absent), and what plus asks for. dx may be dy or an addend.
	GroupNormGradPlus(dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd Tensor, groups int, silu bool, drop Dropout, plus NormPlus)
	// Conv2DAddInputGrad adds to dx what Conv2DInputGrad sets it to, for a convolution
	// of kernel 1 and stride 1.
	Conv2DAddInputGrad(dx, dy, w Tensor, c Conv)
}

// NormPlus is what a GroupNormGradPlus does besides; each may be absent.
type NormPlus struct {
	// Addends, shaped like dx, are added to it.
	Addends [2]Tensor
	// Sums, F32 [N,C], receives the sum of dx, addends and all, over the pixels.
	Sums Tensor
}

// Dropout names a mask of Random.Dropout.
type Dropout struct {
	P      float32
	Seed   uint64
	Stream uint32
	Draws  Tensor
}

// Attention is implemented by backends that run softmax(q k' scale) v without
// storing the scores for the host to see. q, k, v, y are [N, L, C]; heads
// divides C; a head is C/heads adjacent channels.
type Attention interface {
	// Attention returns in lse [N, heads, L] what the gradient needs.
	Attention(y, lse, q, k, v Tensor, heads int, scale float32)
	AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v Tensor, heads int, scale float32)
}

// Mixed is implemented by backends that may store activations, and the gradients
// that flow to them, in another type than F32. Their operations then take such
// activations beside F32 parameters, moments and sums; all activations of one call
// are of one type, but for convolutions, whose x and y may differ.
type Mixed interface {
	// Activations is the type: F32, or BF16.
	Activations() DType
	// SliceAs returns a view of n elements of type dt in an F32 buffer, from its
	// element off on.
	SliceAs(b Buffer, dt DType, off, n int) Buffer
}

// Replayer is implemented by backends that can record the operations of one
// call of f (a CUDA graph) and run them again with less work on the host. The
// recorded operations use the same buffers; what changes between replays is
// their content. Record may run f more than once.
type Replayer interface {
	Record(f func() error) (replay func() error, err error)
}

// Sampling is implemented by backends that take images from one step of a sampler to
// the next where the network computes.
type Sampling interface {
	// SamplerStep replaces images x [N,...] by those of the next step, given the
	// network's output out of the same shape. Where none is present, the output is
	// none + Scale (out - none). a and b are what the sampler keeps between steps; both
	// are absent where it keeps nothing. ids are I64 [N]. Where the output is not finite,
	// x becomes NaN.
	SamplerStep(x, out, none, a, b, ids Tensor, k SamplerStep)
}

// SamplerStep are the coefficients of a step, in float64:
//
//	x0 = XX x + XO out, clipped to [-1, 1] where Clip is set
//	x' = KX0 x0 + KXT x + KOut out + Sigma z, or
//	x' = KX0 x0 + KXT x + KA a + KB b, and with Keeps then a' = x, b' = BX x + B0 x0
//
// with z standard normal, of (Seed, Stream, id).
type SamplerStep struct {
	XX, XO, KX0, KXT, KOut, Sigma, KA, KB, BX, B0 float64

	Keeps, Clip bool
	Scale       float64
	Seed        uint64
	Stream      uint32
}

// Fetcher is implemented by backends that copy to the host without making it wait.
type Fetcher interface {
	// AllocFetched returns n elements of host memory for Fetch. It is given back when
	// the backend is closed.
	AllocFetched(n int) ([]float32, error)
	// Fetch copies an F32 buffer to such memory, or to a part of it, behind what was
	// called before. The values are there when the host has waited for the device: by
	// Sync, Download, or for what was called later.
	Fetch(dst []float32, src Buffer)
}

// Sharer is implemented by backends that can place a buffer where other processes
// of this host may read it, so that ranks can sum gradients without sending them.
type Sharer interface {
	// AllocShared is Memory.Alloc; where such memory is to be had, the buffer is
	// in it. It is a Buffer like any other.
	AllocShared(dt DType, n int) (Buffer, error)
}
