package portable

import "math"

// Limits of Exp: above the first the result is infinite, below the second it is zero.
const mostExp, leastExp = 7.09782712893384e+02, -745.2

// The parts of ln 2 that are taken from the exponent, and the Taylor series of exp(x) - 1,
// the highest power first, which is taken at a sixteenth (Shibata, "Efficient evaluation
// methods of elementary functions suitable for SIMD computation", ISC 2010).
const ln2Upper, ln2Lower = 0.69314718055966295651160180568695068359375, 0.28235290563031577122588448175013436025525412068e-12

var taylor = [...]float64{
	2.4801587301587301587e-5, 1.9841269841269841270e-4, 1.3888888888888888889e-3, 8.3333333333333333333e-3,
	4.1666666666666666667e-2, 1.6666666666666666667e-1, 0.5, 1,
}

// Exp is e^x.
func Exp(x float64) float64 {
	switch {
	case math.IsNaN(x):
		return x
	case x > mostExp:
		return math.Inf(1)
	case x < leastExp:
		return 0
	}
	k := math.RoundToEven(x * math.Log2E)
	x = math.FMA(-ln2Upper, k, x)
	x = math.FMA(-ln2Lower, k, x)
	x *= 1. / 16
	y := taylor[0]
	for _, c := range taylor[1:] {
		y = math.FMA(x, y, c)
	}
	x = float64(x * y) // exp(x) - 1; four times (exp - 1)(exp - 1 + 2) is that of the double
	for range 3 {
		x = float64(x * (x + 2))
	}
	return math.Ldexp(math.FMA(x, x+2, 1), int(k))
}

// Pow is x^y for a finite x above 0 and a finite y: the fraction of y by Exp and Log, the
// whole part by squaring.
func Pow(x, y float64) float64 {
	switch y {
	case 0:
		return 1
	case 1:
		return x
	case 0.5:
		return math.Sqrt(x)
	case -0.5:
		return 1 / math.Sqrt(x)
	}
	if !(x > 0) || math.IsInf(x, 0) || math.IsNaN(y) || math.Abs(y) >= 1<<30 {
		return math.NaN()
	}
	whole, fraction := math.Modf(math.Abs(y))
	power, exponent := 1.0, 0
	if fraction > 0.5 {
		fraction--
		whole++
	}
	if fraction != 0 {
		power = Exp(float64(fraction * Log(x)))
	}
	m, e := math.Frexp(x)
	for i := int64(whole); i != 0; i >>= 1 {
		if e < -1<<12 || 1<<12 < e { // more than any result has; the sum overflows no more
			exponent += e
			break
		}
		if i&1 == 1 {
			power = float64(power * m)
			exponent += e
		}
		m = float64(m * m)
		e *= 2
		if m < 0.5 {
			m *= 2
			e--
		}
	}
	if y < 0 {
		power, exponent = 1/power, -exponent
	}
	return math.Ldexp(power, exponent)
}
