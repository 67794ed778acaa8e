package optim

import "math"

// powi is b^t for t >= 0 by repeated squaring. Unlike math.Pow it is made of
// rounded multiplications only, so it has the same bits on every architecture.
func powi(b float64, t int64) float64 {
	p := 1.0
	for ; t > 0; t >>= 1 {
		if t&1 == 1 {
			p = float64(p * b)
		}
		b = float64(b * b)
	}
	return p
}

// biasCorrection is 1 - beta^t: what a running average that started at zero
// holds of its limit after t updates.
func biasCorrection(beta float64, t int64) float64 { return 1 - powi(beta, t) }

// sqrt32 is the correctly rounded square root.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
