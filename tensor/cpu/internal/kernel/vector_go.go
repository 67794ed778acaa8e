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
		dst[i] = alpha*x[i] + beta*y[i]
	}
}

func siluGo(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = v * sigmoid(v)
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
		s[0] += u[0] * v[0]
		s[1] += u[1] * v[1]
		s[2] += u[2] * v[2]
		s[3] += u[3] * v[3]
	}
	for ; i < len(x); i++ {
		s[0] += x[i] * y[i]
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func expSumGo(dst, x []float32, scale, top float32) float32 {
	var s [4]float32
	x = x[:len(dst)]
	for i, v := range x {
		e := exp(scale*v - top)
		dst[i] = e
		s[i%4] += e
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

// exp is e^x for x limited to [-86.5, 88], where the result is a normal number:
// x = n ln 2 + r, and a polynomial of Cephes' expf in r.
func exp(x float32) float32 {
	const (
		log2e = 1.44269504088896341
		ln2hi = 0.693359375
		ln2lo = -2.12194440e-4
		magic = 3 << 22 // adding it rounds to an integer
	)
	if x < -86.5 {
		x = -86.5
	}
	if x > 88 {
		x = 88
	}
	n := (x*log2e + magic) - magic
	r := x - n*ln2hi - n*ln2lo
	y := float32(1.9875691500e-4)
	y = y*r + 1.3981999507e-3
	y = y*r + 8.3334519073e-3
	y = y*r + 4.1665795894e-2
	y = y*r + 1.6666665459e-1
	y = y*r + 5.0000001201e-1
	y = y*r*r + r + 1
	return y * math.Float32frombits(uint32(int32(n)+127)<<23)
}

func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }

func siluSlope(x float32) float32 {
	s := sigmoid(x)
	return s * (1 + x*(1-s))
}
