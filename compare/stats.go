package compare

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// level is the two-sided level of intervals and tests: 95 % and 5 %.
const level = 0.05

// Sample describes the values of one metric over seeds.
type Sample struct {
	N    int
	Mean float64
	SD   float64 // with divisor n-1; NaN below two values
	Half float64 // half the 95 % interval of the mean (Student); NaN below two values
}

func sampleOf(x []float64) Sample {
	s := Sample{N: len(x), SD: math.NaN(), Half: math.NaN()}
	for _, v := range x {
		s.Mean += v / float64(len(x))
	}
	if len(x) == 0 {
		s.Mean = math.NaN()
	}
	if len(x) < 2 {
		return s
	}
	var squares float64
	for _, v := range x {
		squares += (v - s.Mean) * (v - s.Mean)
	}
	n := float64(len(x))
	s.SD = math.Sqrt(squares / (n - 1))
	s.Half = student(n-1).Quantile(1-level/2) * s.SD / math.Sqrt(n)
	return s
}

func student(nu float64) distuv.StudentsT { return distuv.StudentsT{Sigma: 1, Nu: nu} }

// Paired is the test of one method against another on the same seeds.
type Paired struct {
	Sample         // of the differences
	Effect float64 // mean / SD of the differences (Cohen's d_z); 0 where they are all 0
	P      float64 // two-sided, Student's t on the differences; NaN below two pairs
	Holm   float64 // P corrected for the family of tests
	Need   int     // seeds that would show a difference of Target with power 0.8; 0: more than 10,000
	Target float64 // the difference that power is worked out for
}

// paired tests differences; target is the difference of interest.
func paired(d []float64, target float64) Paired {
	p := Paired{Sample: sampleOf(d), P: math.NaN(), Holm: math.NaN(), Target: math.Abs(target)}
	if p.N < 2 {
		return p
	}
	switch {
	case p.SD > 0:
		p.Effect = p.Mean / p.SD
		nu := float64(p.N - 1)
		p.P = 2 * student(nu).Survival(math.Abs(p.Effect)*math.Sqrt(float64(p.N)))
	case p.Mean == 0:
		p.P = 1
	default: // all differences are equal and not 0
		p.Effect, p.P = math.Copysign(math.Inf(1), p.Mean), 0
	}
	p.Need = seedsNeeded(p.Target, p.SD)
	return p
}

// holm corrects the p values of a family (Holm, 1979): the i-th smallest of m is
// multiplied by m - i, and none is smaller than the one before it.
func holm(family []*Paired) {
	var valid []*Paired
	for _, p := range family {
		if p.P == p.P {
			valid = append(valid, p)
		}
	}
	slices.SortStableFunc(valid, func(a, b *Paired) int { return cmp.Compare(a.P, b.P) })
	before := 0.0
	for i, p := range valid {
		before = max(before, min(1, p.P*float64(len(valid)-i)))
		p.Holm = before
	}
}

const maxSeeds = 10_000

// seedsNeeded is the smallest number of seeds with which a paired t test at level 0.05
// finds a true mean difference with probability 0.8 or more, if differences have this
// standard deviation; 0 where even maxSeeds are too few.
func seedsNeeded(difference, sd float64) int {
	const power = 0.8
	if !(sd > 0) {
		return 2
	}
	if !(difference > 0) || powerOf(difference/sd, maxSeeds) < power {
		return 0
	}
	lo, hi := 2, maxSeeds
	for lo < hi {
		if mid := (lo + hi) / 2; powerOf(difference/sd, mid) >= power {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// powerOf is the probability that the two-sided test rejects with n pairs of true
// effect d (mean / SD): that a noncentral t with n-1 degrees of freedom and parameter
// d sqrt(n) exceeds the critical value on either side.
func powerOf(d float64, n int) float64 {
	nu := float64(n - 1)
	critical, shift := student(nu).Quantile(1-level/2), d*math.Sqrt(float64(n))
	// P(T > c) is the mean of P(Z > c s - shift) over s = sqrt(chi^2/nu): Simpson's rule
	// over the values of s that matter.
	chi := distuv.ChiSquared{K: nu}
	lo, hi := max(math.Sqrt(chi.Quantile(1e-10)/nu), 1e-9), math.Sqrt(chi.Quantile(1-1e-10)/nu)
	const steps = 400
	h := (hi - lo) / steps
	sum := 0.0
	for i := range steps + 1 {
		s := lo + float64(i)*h
		reject := distuv.UnitNormal.Survival(critical*s-shift) + distuv.UnitNormal.CDF(-critical*s-shift)
		weight := 4.0
		if i%2 == 0 {
			weight = 2
		}
		if i == 0 || i == steps {
			weight = 1
		}
		sum += weight * reject * chi.Prob(nu*s*s) * 2 * nu * s
	}
	return sum * h / 3
}
