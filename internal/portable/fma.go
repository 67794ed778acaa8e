package portable

import "math"

// FMA is x y + z, rounded once: what VFMADD231SS and FMADD compute. The product of two
// float32 is exact in float64. The sum is rounded twice, to float64 and to float32, and
// that differs from once only where the first rounding ends half-way between two
// float32: there it is made to end on the side of the exact sum.
func FMA(x, y, z float32) float32 {
	p, a := float64(x)*float64(y), float64(z)
	s := p + a
	if Doubtful(s) {
		return Settle(p, a, s)
	}
	return float32(s)
}

// Doubtful tells whether a sum in float64 may lie half-way between two float32: normal
// ones differ by 2^29 units of the last place of a float64, so the lower 29 bits are
// 1 and zeros; those below 2^-126 are looked at one by one.
func Doubtful(s float64) bool {
	const least = (1023 - 126) << 52
	u := math.Float64bits(s)
	return u<<35 == 1<<63 || u<<1-2 < least<<1-2
}

// Settle rounds p + a, which is s in float64, to float32: where s is not exact and its
// last bit is even, the neighbour towards the exact sum takes its place (Boldo and
// Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE TC 2008).
func Settle(p, a, s float64) float32 {
	b := s - p
	lost := (p - (s - b)) + (a - b) // exact (Knuth)
	u := math.Float64bits(s)
	if lost != 0 && u&1 == 0 {
		if lost > 0 == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}
