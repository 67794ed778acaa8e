package probe

import "unsafe"

// goChains is the number of accumulators of fmaGo.
const goChains = 8

// fmaGo is the twin of the assembly in plain Go: a multiplication and an
// addition, in one instruction where the compiler fuses them (arm64).
func fmaGo(out *float32, turns int) {
	const half, one = 0.5, 1
	var a, b, c, d, e, f, g, h float32
	for range turns {
		a = a*half + one
		b = b*half + one
		c = c*half + one
		d = d*half + one
		e = e*half + one
		f = f*half + one
		g = g*half + one
		h = h*half + one
	}
	*(*[goChains]float32)(unsafe.Pointer(out)) = [goChains]float32{a, b, c, d, e, f, g, h}
}

func readGo(sums, x *float32, count int) {
	s := (*[Block]float32)(unsafe.Pointer(sums))
	var a, b, c, d, e, f, g, h float32
	for v := unsafe.Slice(x, count); len(v) >= 8; v = v[8:] {
		a += v[0]
		b += v[1]
		c += v[2]
		d += v[3]
		e += v[4]
		f += v[5]
		g += v[6]
		h += v[7]
	}
	copy(s[:], []float32{a, b, c, d, e, f, g, h})
}

func scaleGo(x *float32, count int, alpha float32) {
	for v := unsafe.Slice(x, count); len(v) >= 8; v = v[8:] {
		v[0] *= alpha
		v[1] *= alpha
		v[2] *= alpha
		v[3] *= alpha
		v[4] *= alpha
		v[5] *= alpha
		v[6] *= alpha
		v[7] *= alpha
	}
}
