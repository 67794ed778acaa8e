package tensortest

// difference is the step of the central differences: their error is its square
// times the third derivative, and 1e-16 over it.
const difference = 1e-5

// differences is the gradient of sum(dy f(x)) in x by central differences. x is
// left as it was.
func differences(x, dy []float64, f func(x []float64) []float64) []float64 {
	dot := func() float64 {
		var s float64
		for i, v := range f(x) {
			s += v * dy[i]
		}
		return s
	}
	grad := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + difference
		up := dot()
		x[i] = v - difference
		down := dot()
		x[i] = v
		grad[i] = (up - down) / (2 * difference)
	}
	return grad
}
