package kernel

import "math"

func addGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

func scaleGo(dst, x []float32, alpha float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = alpha * x[i]
	}
}

func blendGo(dst, x, y []float32, alpha, beta float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = float32(alpha*x[i]) + float32(beta*y[i])
	}
}

func siluGo(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = silu(v)
	}
}

func siluGradGo(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i, v := range x {
		dst[i] = y[i] * siluSlope(v)
	}
}

func softmaxGradGo(dst, x, y []float32, scale, sum float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = scale * y[i] * (x[i] - sum)
	}
}

func maxScaledGo(x []float32, scale float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		if v *= scale; v > top {
			top = v
		}
	}
	return top
}

func dotGo(x, y []float32) float32 {
	var s [4]float32
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		u, v := (*[4]float32)(x[i:]), (*[4]float32)(y[i:])
		s[0] += float32(u[0] * v[0])
		s[1] += float32(u[1] * v[1])
		s[2] += float32(u[2] * v[2])
		s[3] += float32(u[3] * v[3])
	}
	for ; i < len(x); i++ {
		s[0] += float32(x[i] * y[i])
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func expSumGo(dst, x []float32, scale, top float32) float32 {
	var s [4]float32
	x = x[:len(dst)]
	for i, v := range x {
		e := exp(float32(scale*v) - top)
		dst[i] = e
		s[i%4] += e
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

// split writes e^x as s (1 + r y) with s a power of 2: x = n ln 2 + r, and
// y = 1 + r q(r) with q of least error (3.6e-9).
func split(x float32) (s, r, y float32) {
	const (
		log2e = 1.44269504088896341
		ln2hi = 0.693359375
		ln2lo = -2.12194440e-4
		magic = 3 << 22 // adding it rounds to an integer
	)
	n := (float32(x*log2e) + magic) - magic
	r = x - float32(n*ln2hi) - float32(n*ln2lo)
	y = 0.0013814540579915047
	y = float32(y*r) + 0.00836874544620514
	y = float32(y*r) + 0.04166838899254799
	y = float32(y*r) + 0.1666652113199234
	y = float32(y*r) + 0.4999999403953552
	return math.Float32frombits(uint32(int32(n)+127) << 23), r, float32(y*r) + 1
}

// exp is e^x for x limited to [-86.5, 88], where the result is a normal number.
func exp(x float32) float32 {
	if x < -86.5 {
		x = -86.5
	}
	if x > 88 {
		x = 88
	}
	s, r, y := split(x)
	return s * (float32(r*y) + 1)
}

// limit takes x into [-87, 87], where 1/(1+e^-x) is a normal number too.
func limit(x float32) float32 { return min(max(x, -87), 87) }

func silu(x float32) float32 {
	s, r, y := split(-limit(x))
	return x / (float32(float32(s*r)*y) + 1 + s) // without the rounding of e^-x itself
}

// siluSlope is s (1 + x (1-s)) for s = sigmoid(x); 1-s is s e^-x.
func siluSlope(x float32) float32 {
	e := exp(-limit(x))
	s := 1 / (1 + e)
	return s * (1 + float32(x*(e*s)))
}
