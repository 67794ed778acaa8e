package tensor

// Backend computes on one device. Its methods are called from one goroutine.
type Backend interface {
	// Name says what computes, for logs and run events: "cpu/avx512", "cpu/go",
	// "cuda:0 NVIDIA H100".
	Name() string
	Memory
	Elementwise
	Reduce
	Random
	GEMM
	NN
	// Close releases the device and all its buffers. It is idempotent.
	Close() error
}

// Memory allocates and moves.
type Memory interface {
	// Alloc returns a zeroed buffer of n elements. It fails when the device has
	// no room, naming the bytes asked for.
	Alloc(dt DType, n int) (Buffer, error)
	// Free gives a buffer of Alloc back (not a view of one).
	Free(b Buffer)
	// Slice returns a view of elements [off, off+n) of b.
	Slice(b Buffer, off, n int) Buffer
	// Upload copies host values to an F32 or BF16 buffer (rounding to nearest
	// even); len(src) == dst.Len(). src may be reused when it returns.
	Upload(dst Buffer, src []float32)
	// UploadInt64 copies host values to an I64 buffer.
	UploadInt64(dst Buffer, src []int64)
	// Download waits for all that was called before, then copies to the host.
	Download(dst []float32, src Buffer) error
	// Sync waits for all operations called before and returns the first
	// failure among them.
	Sync() error
}

// Elementwise operations. Operands have one shape unless stated; dst may be one
// of the operands.
type Elementwise interface {
	// Copy is dst = a, converting between F32 and BF16.
	Copy(dst, a Tensor)
	// Fill is dst = v in every element.
	Fill(dst Tensor, v float32)
	// Add is dst = a + b.
	Add(dst, a, b Tensor)
	// AddScaled is dst = dst + alpha a.
	AddScaled(dst, a Tensor, alpha float32)
	// Scale is dst = alpha a.
	Scale(dst, a Tensor, alpha float32)
	// SiLU is dst = x sigmoid(x).
	SiLU(dst, x Tensor)
	// SiLUGrad is dx = dy d silu(x)/dx.
	SiLUGrad(dx, dy, x Tensor)
	// AddChannels is dst[n,...,c] = x[n,...,c] + e[n,c]; e is [N,C], or [C] for
	// all samples alike (a bias).
	AddChannels(dst, x, e Tensor)
	// Concat is dst = [a, b] along the last dimension.
	Concat(dst, a, b Tensor)
	// Split undoes Concat: da and db are the two parts of src.
	Split(da, db, src Tensor)
	// QSample is dst[n,...] = ca[n] x0[n,...] + cb[n] eps[n,...] (DDPM, equation
	// 4); ca and cb are [N].
	QSample(dst, x0, eps, ca, cb Tensor)
}

// Reduce sums. The order of every sum is fixed by the shapes alone.
type Reduce interface {
	// SumChannels is dst[c] = sum of x[...,c]: the gradient of a bias. With dst
	// [N,C] the sum runs within each sample.
	SumChannels(dst, x Tensor)
	// MSE is loss[n] = sum over sample n of (pred-target)^2, and, where dpred is
	// present, dpred = 2 scale (pred - target).
	MSE(loss, dpred, pred, target Tensor, scale float32)
}

// Random fills, counter-based: element j of sample n is a function of (seed,
// stream, draws[n], j) by package rng, whatever the batch around it. draws is
// I64 [N].
type Random interface {
	// Normal fills dst[n,...] with standard normal values (rng.Source.Normal).
	Normal(dst, draws Tensor, seed uint64, stream uint32)
	// Dropout is dst = x m/(1-p), where m is 0 or 1: element j of a sample is
	// kept when the j-th word of its sequence is >= round(p 2^32). The gradient
	// is the same call on dy. 0 <= p < 1.
	Dropout(dst, x, draws Tensor, p float32, seed uint64, stream uint32)
}

// MatMulArgs are the options of MatMul. The zero value of Alpha is not 1: state
// it.
type MatMulArgs struct {
	TransA, TransB bool
	Alpha, Beta    float32
}

// GEMM is matrix multiplication.
type GEMM interface {
	// MatMul is dst = Alpha op(a) op(b) + Beta dst for row-major matrices, or
	// for each of N pairs when the operands are [N, rows, columns]. Beta 0 does
	// not read dst.
	MatMul(dst, a, b Tensor, args MatMulArgs)
}

// Conv describes a two-dimensional convolution (cross-correlation, as in the
// field).
type Conv struct {
	Kernel int // kh = kw: 1 or 3
	Stride int // 1 or 2
	// Zero rows above / columns left, and zero rows below / columns right.
	// Symmetric 1 is PadLo = PadHi = 1; diffusers' downsample_padding 0 is
	// PadLo = 0, PadHi = 1.
	PadLo, PadHi int
}

// OutSize returns the output height or width for an input of n.
func (c Conv) OutSize(n int) int { return (n+c.PadLo+c.PadHi-c.Kernel)/c.Stride + 1 }

// NN is what networks are made of.
type NN interface {
	// Conv2D is y = conv(x, w) + bias [+ e[n,:]] [+ residual]; bias [Cout],
	// perSample [N, Cout] and residual (shape of y) are optional. y overlaps no
	// operand but residual.
	Conv2D(y, x, w, bias, perSample, residual Tensor, c Conv)
	// Conv2DInputGrad is dx = d/dx of conv for dy. dx overlaps no operand.
	Conv2DInputGrad(dx, dy, w Tensor, c Conv)
	// Conv2DWeightGrad is dw = d/dw of conv for dy, and, where db is present,
	// db = the sum of dy over all but the channels.
	Conv2DWeightGrad(dw, db, x, dy Tensor, c Conv)

	// GroupNorm is y = gamma (x - mean)/sqrt(var + eps) + beta with moments over
	// each (sample, group of C/groups channels); mean and rstd = 1/sqrt(var+eps)
	// are [N, groups] outputs. gamma and beta are [C], or [N,C] where each sample
	// has its own. y may be x.
	GroupNorm(y, mean, rstd, x, gamma, beta Tensor, groups int, eps float32)
	// GroupNormGrad gives dx (may be dy), dgamma and dbeta, which have gamma's shape.
	GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd Tensor, groups int)
	// ScaleShift is gammas[n,c] = gamma[c] (1 + s[n,c]) and betas[n,c] =
	// beta[c] (1 + s[n,c]) + t[n,c] for e = [s, t], [N,2C]: a GroupNorm with gammas
	// and betas is one with gamma and beta, and then x (1 + s) + t (adaptive group
	// normalization; Dhariwal & Nichol, arXiv 2105.05233, section 3.1). No result
	// overlaps an operand.
	ScaleShift(gammas, betas, gamma, beta, e Tensor)
	// ScaleShiftGrad gives dgamma, dbeta and de. No result overlaps an operand.
	ScaleShiftGrad(dgamma, dbeta, de, dgammas, dbetas, gamma, beta, e Tensor)

	// Softmax is y = softmax(scale x) over the last dimension. y may be x.
	Softmax(y, x Tensor, scale float32)
	// SoftmaxGrad is dx = scale y (dy - sum(dy y)). dx may be dy.
	SoftmaxGrad(dx, dy, y Tensor, scale float32)

	// Upsample is nearest-neighbour enlargement by 2: x [N,H,W,C] to
	// y [N,2H,2W,C].
	Upsample(y, x Tensor)
	// UpsampleGrad is dx = the sum of the four dy of each x.
	UpsampleGrad(dx, dy Tensor)
	// TimestepEmbedding is dst[n] = the sinusoidal embedding of t[n] (I64 [N]):
	// frequency k of dim/2 is 10000^(-k/(dim/2 - freqShift)). sin values come
	// first and cos values second, or the reverse with flip.
	TimestepEmbedding(dst, t Tensor, freqShift int, flip bool)
}
