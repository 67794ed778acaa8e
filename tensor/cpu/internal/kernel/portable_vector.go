package kernel

import "math"

// lanes are the sums of a reduction: lane l has the elements of index l modulo 8.
type lanes [8]float32

// fold is the sum of the lanes, halved three times.
func (l *lanes) fold() float32 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

func blendPortable(dst, x, y []float32, alpha, beta float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = fma(alpha, x[i], beta*y[i])
	}
}

func siluPortable(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = siluOnce(v)
	}
}

func siluGradPortable(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i, v := range x {
		dst[i] = y[i] * siluSlopeOnce(v)
	}
}

func dotPortable(x, y []float32) float32 {
	var s lanes
	y = y[:len(x)]
	for i, v := range x {
		s[i%8] = fma(v, y[i], s[i%8])
	}
	return s.fold()
}

func expSumPortable(dst, x []float32, scale, top float32) float32 {
	var s lanes
	x = x[:len(dst)]
	for i, v := range x {
		e := expOnce(float32(scale*v) - top)
		dst[i] = e
		s[i%8] += e
	}
	return s.fold()
}

func softmaxRowsPortable(t *Rows) {
	for r := range t.Rows {
		x, dst := t.row(t.X, r), t.row(t.Dst, r)
		t.Top[r] = maxScaledGo(x, t.Scale)
		t.Sum[r] = expSumPortable(dst, x, t.Scale, t.Top[r])
		scaleGo(dst, dst, 1/t.Sum[r])
	}
}

func softmaxGradRowsPortable(t *Rows) {
	for r := range t.Rows {
		x, y, dst := t.row(t.X, r), t.row(t.Y, r), t.row(t.Dst, r)
		t.Sum[r] = expSumPortable(dst, x, t.Scale, t.Top[r])
		scaleGo(dst, dst, 1/t.Sum[r])
		softmaxGradGo(y, y, dst, t.Scale, dotPortable(y, dst))
	}
}

// splitOnce reduces x, which it takes times sign, as split does: x = n ln 2 + r; q is the
// polynomial up to before its last two terms, and bits is n in the exponent's place.
func splitOnce(x, sign float32) (r, q float32, bits uint32) {
	const (
		log2e = 1.44269504088896341
		ln2hi = 0.693359375
		ln2lo = -2.12194440e-4
		magic = 3 << 22 // adding it rounds to an integer, which is then in the lowest bits
	)
	n := fma(sign*log2e, x, magic)
	whole := n - magic
	r = fma(-sign*ln2hi, whole, x)
	r = fma(-sign*ln2lo, whole, r)
	q = 0.0013814540579915047
	q = fma(q, r, sign*0.00836874544620514)
	q = fma(q, r, 0.04166838899254799)
	q = fma(q, r, sign*0.1666652113199234)
	q = fma(q, r, 0.4999999403953552)
	return r, q, math.Float32bits(n) << 23
}

func expOnce(x float32) float32 {
	if x < -86.5 {
		x = -86.5
	}
	if x > 88 {
		x = 88
	}
	r, q, n := splitOnce(x, 1)
	y := fma(r, fma(r, q, 1), 1)
	return math.Float32frombits(math.Float32bits(y) + n)
}

// splitMinus reduces -x: exp(-x) = 2^n (1 + r y), where r is that of x.
func splitMinus(x float32) (r, y float32, n uint32) {
	r, q, n := splitOnce(limit(x), -1)
	return r, fma(r, q, -1), n
}

func siluOnce(x float32) float32 {
	r, y, n := splitMinus(x)
	s := math.Float32frombits(math.Float32bits(1) + n)
	return x / (s + fma(float32(s*r), y, 1))
}

func siluSlopeOnce(x float32) float32 {
	r, y, n := splitMinus(x)
	e := math.Float32frombits(math.Float32bits(fma(r, y, 1)) + n)
	s := 1 / (1 + e)
	return s * fma(x, s*e, 1)
}
