package optim

// Update is one training update after the gradient is complete.
type Update struct {
	Params []float32
	Grads  []float32 // contents afterwards are undefined
	EMA    []float32 // nil: no average is kept

	LR          float64
	T           int64   // number of this update, from 1
	MaxGradNorm float64 // for ClipScale; 0 is off
	EMADecay    float64 // of this update, see EMAConfig.At
}

// Stats is what an update saw.
type Stats struct {
	GradNorm float64 // L2 norm of the gradient before clipping
	Clip     float64 // factor applied, 1 where nothing was clipped, 0 where nothing was written
	Finite   bool    // false: the gradient held NaN or infinity and nothing was written
}
