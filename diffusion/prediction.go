package diffusion

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
)

// Prediction says what the network's output means. Values are diffusers' names
// (prediction_type).
type Prediction string

// The three predictions. With x_t = s x0 + n eps, s = sqrt(abar_t), n =
// sqrt(1-abar_t), each is a linear form of x0 and eps, and with x_t known each
// determines the others.
const (
	Epsilon Prediction = "epsilon"      // the noise eps (DDPM)
	X0      Prediction = "sample"       // the image x0
	V       Prediction = "v_prediction" // s eps - n x0 (Salimans & Ho, arXiv 2202.00512)
)

func predictionNames() []string { return []string{string(Epsilon), string(X0), string(V)} }

// TargetCoefficients returns a and b of the training target a x0 + b eps at
// timestep t in [0, T). It panics on a Prediction that Config.Validate refuses.
func (p Prediction) TargetCoefficients(s *Schedule, t int) (a, b float64) {
	return p.target(s.AlphasCumprod[t])
}

// Target computes the training target into dst: the host reference of what the
// trainer does on tensors. The slices have one length; dst may be x0 or eps.
func (p Prediction) Target(dst, x0, eps []float32, s *Schedule, t int) {
	a, b := p.TargetCoefficients(s, t)
	combine(dst, x0, eps, a, b)
}

// target is TargetCoefficients for an abar.
func (p Prediction) target(abar float64) (a, b float64) {
	switch p {
	case Epsilon:
		return 0, 1
	case X0:
		return 1, 0
	case V:
		return -math.Sqrt(1 - abar), math.Sqrt(abar)
	}
	panic(fmt.Sprintf("diffusion: unknown prediction %q", string(p)))
}

// solve returns x0 = xx x_t + xo out and eps = ex x_t + eo out for the output
// out of a network with this prediction.
func (p Prediction) solve(abar float64) (xx, xo, ex, eo float64) {
	s, n := math.Sqrt(abar), math.Sqrt(1-abar)
	switch p {
	case Epsilon:
		return 1 / s, -n / s, 0, 1
	case X0:
		return 0, 1, 1 / n, -s / n
	case V:
		return s, -n, n, s
	}
	panic(fmt.Sprintf("diffusion: unknown prediction %q", string(p)))
}

// Timestep is the training timestep of a draw, uniform over [0, timesteps): a
// function of (seed, draw) alone. A draw names one use of one sample in the
// run.
func Timestep(seed, draw uint64, timesteps int) int {
	return rng.New(seed, rng.StreamTimestep).IntN(draw, timesteps)
}
