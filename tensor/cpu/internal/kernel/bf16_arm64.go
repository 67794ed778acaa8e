package kernel

import "github.com/agrdist/agrdist/internal/isa"

// BestBF16 is the set for products of bf16 operands on this processor. NEONBF16 is never
// chosen: its instruction rounds otherwise, and no processor has been measured.
func BestBF16() Set { return Set(isa.Best()) }

// RoundBF16 is dst = x rounded to bf16: to nearest, ties to even.
func (s Set) RoundBF16(dst, x []float32) {
	x = x[:len(dst)]
	if s.plain() || len(dst) == 0 {
		roundBF16Go(dst, x)
		return
	}
	roundBF16NEON(&dst[0], &x[0], len(dst))
}

// Pair is dst[i] = the pair (x[2i], x[2i+1]), of zero where x ends. dst has
// Pairs(len(x)) elements.
func (s Set) Pair(dst, x []float32) {
	dst = dst[:Pairs(len(x))]
	n := 0
	if s == NEONBF16 {
		if n = len(x) / 8; n > 0 {
			pairBF16NEON(&dst[0], &x[0], n)
		}
	}
	pairGo(dst[4*n:], x[8*n:])
}

// PairRows is dst[r, i] = the pair (x[r, i], y[r, i]).
func (s Set) PairRows(dst, x, y []float32, l Lines) {
	whole := l.Cols &^ 3 // in vectors
	if s != NEONBF16 || l.Rows == 0 || whole == 0 {
		pairRowsGo(dst, x, y, l)
		return
	}
	l.of(dst, x, y)
	pairRowsBF16NEON(&dst[0], &x[0], &y[0], l.Rows, whole/4, 4*l.Dst, 4*l.Src)
	if l.Cols -= whole; l.Cols > 0 {
		pairRowsGo(dst[whole:], x[whole:], y[whole:], l)
	}
}

// quadFloats are two rows of pairs of a tile of NEONBF16.
const quadFloats = 2 * 16

// Quads orders rows of pairs, of a whole tile's columns, as the tiles of NEONBF16 read B: of
// two rows, a column's two pairs side by side. The number of rows is even.
func (s Set) Quads(dst []float32) {
	if n := len(dst) / quadFloats; n > 0 {
		quadsBF16NEON(&dst[0], n)
	}
}
