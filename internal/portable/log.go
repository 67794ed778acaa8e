package portable

import "math"

// The coefficients of log(1+f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f/(2+f), by Remez
// (FreeBSD's msun, e_log.c), and ln 2 in two parts.
const (
	log1, log2, log3, log4 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01
	log5, log6, log7       = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01
	ln2High, ln2Low        = 6.93147180369123816490e-01, 1.90821492927058770002e-10
)

// Log is the natural logarithm, within one unit in the last place.
func Log(x float64) float64 {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 1):
		return x
	case x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	}
	m, exponent := math.Frexp(x)
	if m <= math.Sqrt2/2 {
		m *= 2
		exponent--
	}
	f, k := m-1, float64(exponent)
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	odd := float64(s2 * (log1 + float64(s4*(log3+float64(s4*(log5+float64(s4*log7)))))))
	even := float64(s4 * (log2 + float64(s4*(log4+float64(s4*log6)))))
	half := float64(float64(0.5*f) * f)
	return float64(k*ln2High) - ((half - (float64(s*(half+(odd+even))) + float64(k*ln2Low))) - f)
}
