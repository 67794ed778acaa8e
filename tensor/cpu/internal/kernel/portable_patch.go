package kernel

// The transforms in float32, line by line as the generators of the assembly write them.
// Their constants are rounded from float64, as the generators do.
var linesPortable = [...]func(x [6]float32) [6]float32{
	WinogradInput: inputPortable, WinogradFilter: filterPortable, WinogradOutput: outputPortable,
	WinogradGrad: gradPortable, WinogradFilterGrad: filterGradPortable,
	WinogradInputRow: inputPortable, WinogradGradRow: gradPortable,
}

const (
	n0  = float32(float64(norm0))
	nA  = float32(float64(normA))
	nAa = float32(float64(normA * a))
	nA2 = float32(float64(normA * a2))
	nB  = float32(float64(normB))
	nBb = float32(float64(normB * b))
	nB2 = float32(float64(normB * b2))
)

func inputPortable(d [6]float32) [6]float32 {
	evenA, oddA := fma(b2, d[2], -d[4]), fma(b2, d[1], -d[3])
	evenB, oddB := fma(-a2, d[2], d[4]), fma(-a2, d[1], d[3])
	return [6]float32{
		fma(a2*b2, d[0], fma(-(a2+b2), d[2], d[4])),
		fma(a, oddA, evenA), fma(-a, oddA, evenA), fma(b, oddB, evenB), fma(-b, oddB, evenB),
		fma(a2*b2, d[1], fma(-(a2+b2), d[3], d[5])),
	}
}

func filterPortable(g [6]float32) [6]float32 {
	evenA, oddA := fma(nA2, g[2], nA*g[0]), float32(nAa*g[1])
	evenB, oddB := fma(nB2, g[2], nB*g[0]), float32(nBb*g[1])
	return [6]float32{n0 * g[0], evenA + oddA, evenA - oddA, evenB + oddB, evenB - oddB, g[2]}
}

func outputPortable(m [6]float32) [6]float32 {
	evenA, oddA, evenB, oddB := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [6]float32{
		m[0] + (evenA + evenB), fma(a, oddA, b*oddB), fma(a2, evenA, b2*evenB), fma(a2*a, oddA, fma(b2*b, oddB, m[5])),
	}
}

func gradPortable(y [6]float32) [6]float32 {
	evenA, oddA := fma(a2, y[2], y[0]), fma(a2*a, y[3], a*y[1])
	evenB, oddB := fma(b2, y[2], y[0]), fma(b2*b, y[3], b*y[1])
	return [6]float32{y[0], evenA + oddA, evenA - oddA, evenB + oddB, evenB - oddB, y[3]}
}

func filterGradPortable(m [6]float32) [6]float32 {
	evenA, oddA, evenB, oddB := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [6]float32{
		fma(nA, evenA, fma(nB, evenB, n0*m[0])), fma(nAa, oddA, nBb*oddB), fma(nA2, evenA, fma(nB2, evenB, m[5])),
	}
}
