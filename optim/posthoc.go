package optim

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// An average of the weights of a training is sum_s p(s) w_s, s = 0..T, with the profile p
// (sum 1). Averages with one profile can be made afterwards, as a linear combination of
// stored ones with other profiles, as well as the combined profile approximates the wanted
// one (post-hoc EMA: Karras et al., arXiv 2312.02696, section 3.2 and appendix C; there the
// stored ones are power-function averages too, here they are the exponential averages that
// checkpoints have).

// PostHoc says how to combine stored averages.
type PostHoc struct {
	Weights []float64 // of the stored averages; they sum to 1
	// Residual is |combined profile - wanted profile| / |wanted profile|, 2-norms over the
	// updates: 0 is exact.
	Residual float64
}

// ErrPostHoc is wrapped by the errors of FitPowerEMA about its arguments.
var ErrPostHoc = errors.New("optim: the average cannot be made")

// maxLength is the relative width of a power function of exponent 0, rounded down.
const maxLength = 0.28

// PowerExponent is the gamma of the power-function average whose profile has the standard
// deviation length, as a part of the training (sigma_rel of the paper):
// length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). 0 < length <= 0.28.
func PowerExponent(length float64) (float64, error) {
	if !(length > 0.001 && length <= maxLength) {
		return 0, fmt.Errorf("%w: a length of %g; it is a part of the training, from 0.001 to %g", ErrPostHoc, length, maxLength)
	}
	lo, hi := 0.0, 2/length // the width falls with gamma, as 1/gamma in the end
	for range 200 {
		g := float64((lo + hi) / 2)
		if (g+1)/((g+2)*(g+2)*(g+3)) > length*length {
			lo = g
		} else {
			hi = g
		}
	}
	return (lo + hi) / 2, nil
}

// powerProfile is the profile after t updates of avg = b avg + (1-b) w with b =
// (1 - 1/s)^(gamma+1) at update s: the power-function average. [t+1]
func powerProfile(t int64, gamma float64) []float64 {
	p := make([]float64, t+1)
	left := 1.0
	for s := t; s > 0; s-- {
		b := math.Pow(1-1/float64(s), gamma+1)
		p[s] = left * (1 - b)
		left *= b
	}
	p[0] = left
	return p
}

// FitPowerEMA finds the combination of exponential averages of one decay, stored after
// updates at (ascending, the last one is the end of the training), that comes closest to
// the power-function average of a length, among those whose weights sum to 1.
func FitPowerEMA(at []int64, decay, length float64) (PostHoc, error) {
	gamma, err := PowerExponent(length)
	if err != nil {
		return PostHoc{}, err
	}
	n := len(at)
	if n == 0 || at[0] < 1 || !(decay > 0 && decay < 1) {
		return PostHoc{}, fmt.Errorf("%w: %d stored averages of decay %g", ErrPostHoc, n, decay)
	}
	for i := 1; i < n; i++ {
		if at[i] <= at[i-1] {
			return PostHoc{}, fmt.Errorf("%w: stored after updates %d and %d", ErrPostHoc, at[i-1], at[i])
		}
	}
	want := powerProfile(at[n-1], gamma)
	// With p_i(s) = (1-b) b^(a_i - s) for 0 < s <= a_i and p_i(0) = b^a_i, inner products
	// of stored profiles have a closed form; those with the wanted one are a recursion.
	b := decay
	gram := func(i, j int) float64 { // i <= j
		lo, gap := float64(at[i]), float64(at[j]-at[i])
		return math.Pow(b, gap) * ((1-b)/(1+b)*(1-math.Pow(b, 2*lo)) + math.Pow(b, 2*lo))
	}
	inner, along := mat.NewSymDense(n, nil), make([]float64, n)
	var norm, running float64
	next := 0
	for s, w := range want {
		norm += w * w
		if s == 0 {
			running = w
		} else {
			running = b*running + (1-b)*w // sum over s of p_i(s) want(s), would i end here
		}
		for ; next < n && at[next] == int64(s); next++ {
			along[next] = running
		}
	}
	for i := range n {
		for j := i; j < n; j++ {
			inner.SetSym(i, j, gram(i, j))
		}
	}
	return fit(inner, along, norm)
}

// fit combines profiles whose inner products with one another and with the wanted one are
// given, norm being that of the wanted one with itself: least squares with the sum of the
// weights, 1, as a constraint, so the KKT system.
func fit(inner *mat.SymDense, along []float64, norm float64) (PostHoc, error) {
	n := len(along)
	system, right := mat.NewDense(n+1, n+1, nil), mat.NewVecDense(n+1, nil)
	for i := range n {
		for j := range n {
			system.Set(i, j, inner.At(i, j))
		}
		system.Set(i, n, 1)
		system.Set(n, i, 1)
		right.SetVec(i, along[i])
	}
	right.SetVec(n, 1)
	var solved mat.VecDense
	if err := solved.SolveVec(system, right); err != nil {
		var condition mat.Condition
		if !errors.As(err, &condition) || math.IsInf(float64(condition), 1) {
			return PostHoc{}, fmt.Errorf("%w: %w", ErrPostHoc, err)
		}
	}
	p := PostHoc{Weights: make([]float64, n)}
	square := norm
	for i := range n {
		p.Weights[i] = solved.AtVec(i)
		square -= 2 * solved.AtVec(i) * right.AtVec(i)
		for j := range n {
			square += solved.AtVec(i) * solved.AtVec(j) * system.At(i, j)
		}
	}
	p.Residual = math.Sqrt(max(square, 0) / norm)
	return p, nil
}
