package kernel

import "math"

// Two bf16 in the place of a float32, the first of them in its upper half, are a
// pair. A Shape of AVX512BF16 or NEONBF16 takes Tile and TileT with pairs for the elements
// of A and B: K and P count pairs, C and what is added to it stay float32.
//
// A product of two bf16 is exact in float32, and AVX-512's instruction adds those of a
// pair one after the other, rounding to nearest even, the first one first: so the
// sums are those of the other sets on the same values, bit for bit and in the same
// order, but for numbers below 2^-126, which it takes and makes zero. (Intel
// states the order of a pair as the upper half before the lower; TestPairs checks
// it.)
//
// Arm's BFMMLA adds the two products of a pair to each other first, then to the sum, and
// both times rounds to odd: towards zero, with the last bit set where that lost something.
// Numbers below 2^-126 are taken and made zero here too. bfdot in odd_test.go is the
// definition, and TestPairs checks every bit. It is defined for FPCR.EBF = 0, which is what
// Linux and macOS start programs with.

// roundBF16 rounds to the nearest bf16, ties to even; a NaN stays one.
func roundBF16(v float32) float32 {
	u := math.Float32bits(v)
	if v != v {
		u |= 1 << 22
	} else {
		u += 0x7fff + u>>16&1
	}
	return math.Float32frombits(u & 0xffff0000)
}

func roundBF16Go(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = roundBF16(v)
	}
}

// pair rounds two values into the place of one.
func pair(first, second float32) float32 {
	return math.Float32frombits(math.Float32bits(roundBF16(first)) | math.Float32bits(roundBF16(second))>>16)
}

func pairGo(dst, x []float32) {
	for i := range dst {
		var second float32
		if 2*i+1 < len(x) {
			second = x[2*i+1]
		}
		dst[i] = pair(x[2*i], second)
	}
}

// Lines are some rows of two matrices, and of that of their pairs.
type Lines struct {
	Rows, Cols int
	Dst, Src   int // from one row to the next
}

// of checks that the rows lie within the operands.
func (l *Lines) of(dst, x, y []float32) {
	to, from := (l.Rows-1)*l.Dst+l.Cols-1, (l.Rows-1)*l.Src+l.Cols-1
	_, _, _ = dst[to], x[from], y[from]
}

func pairRowsGo(dst, x, y []float32, l Lines) {
	if l.Rows > 0 && l.Cols > 0 {
		l.of(dst, x, y)
	}
	for r := range l.Rows {
		d, x, y := dst[r*l.Dst:][:l.Cols], x[r*l.Src:], y[r*l.Src:]
		for i := range d {
			d[i] = pair(x[i], y[i])
		}
	}
}

// Pairs is how many pairs hold n values.
func Pairs(n int) int { return (n + 1) / 2 }

// Grouped tells whether the tiles of a set of pairs read B by two rows of pairs at once, in
// the order of Quads; each tap, and each segment, of B then has an even number of rows,
// whatever K and P are, and the panels of B are as wide as the tile.
func (s Set) Grouped() bool { return s == NEONBF16 }
