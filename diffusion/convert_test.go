package diffusion

// convert turns a network's output for xt at timestep t from one prediction
// into another. The slices have one length; dst may be xt or out.
func convert(dst, xt, out []float32, from, to Prediction, s *Schedule, t int) {
	abar := s.AlphasCumprod[t]
	if from == to {
		from.target(abar) // an unknown name panics here as everywhere
		combine(dst, xt, out, 0, 1)
		return
	}
	xx, xo, ex, eo := from.solve(abar)
	a, b := to.target(abar)
	combine(dst, xt, out, a*xx+b*ex, a*xo+b*eo)
}
