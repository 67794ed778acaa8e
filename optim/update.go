package optim

import "github.com/agrdist/agrdist/tensor"

// Update is one training update after the gradient is complete, as an agr.Pass takes
// it. The buffers are flat, F32, of one length, and all in the memory that the pass
// works in: tensor.Floats for slices on the host.
type Update struct {
	Params tensor.Buffer
	Grads  tensor.Buffer // contents afterwards are undefined
	EMA    tensor.Buffer // nil: no average is kept

	LR          float64
	T           int64   // number of this update, from 1
	MaxGradNorm float64 // for ClipScale; 0 is off
	EMADecay    float64 // of this update, see EMAConfig.At

	// Movement, where not nil, asks to measure how far the update goes: Apply fills it,
	// on a device Measure, and where the gradient is not finite nobody. On the host it
	// costs a copy of the parameters, block by block, on a device one more reading of
	// the state. It changes no bit of the update. A device adds in another order than
	// the host: the last bits of the norms differ.
	Movement *Movement
}

// Movement says how far an update went: L2 norms over all parameters.
type Movement struct {
	Update float64 // of the change of the parameters
	Params float64 // of the parameters after it
	EMA    float64 // of their difference to the moving average; 0: none is kept
}

// Stats is what an update saw.
type Stats struct {
	GradNorm float64 // L2 norm of the gradient before clipping (with agr.BeforeClip, of what AGR leaves of it)
	Clip     float64 // factor applied, 1 where nothing was clipped, 0 where nothing is written
	// AGR is the gradient's L1 norm after AGR over that before it: the mean of AGR's
	// coefficients 1 - |g|/sum|g|, weighted by |g|. 0: no AGR, or not measured. The
	// unweighted mean says nothing: over a tensor of n elements it is 1 - 1/n for any
	// gradient.
	AGR    float64
	Finite bool // false: the gradient held NaN or infinity and nothing is written
}
