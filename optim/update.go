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
}

// Stats is what an update saw.
type Stats struct {
	GradNorm float64 // L2 norm of the gradient before clipping
	Clip     float64 // factor applied, 1 where nothing was clipped, 0 where nothing is written
	Finite   bool    // false: the gradient held NaN or infinity and nothing is written
}
