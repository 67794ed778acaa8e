package kernel

import "github.com/agrdist/agrdist/internal/isa"

// BestBF16 is the set for products of bf16 operands on this processor.
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
func (s Set) Pair(dst, x []float32) { pairGo(dst[:Pairs(len(x))], x) }

// PairRows is dst[r, i] = the pair (x[r, i], y[r, i]).
func (s Set) PairRows(dst, x, y []float32, l Lines) { pairRowsGo(dst, x, y, l) }
