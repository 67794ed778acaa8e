//go:build !amd64 && !arm64

package kernel

// BestBF16 is the set for products of bf16 operands on this processor.
func BestBF16() Set { return Go }

// RoundBF16 is dst = x rounded to bf16: to nearest, ties to even.
func (s Set) RoundBF16(dst, x []float32) { roundBF16Go(dst, x) }

// Pair is dst[i] = the pair (x[2i], x[2i+1]), of zero where x ends. dst has
// Pairs(len(x)) elements.
func (s Set) Pair(dst, x []float32) { pairGo(dst[:Pairs(len(x))], x) }

// PairRows is dst[r, i] = the pair (x[r, i], y[r, i]).
func (s Set) PairRows(dst, x, y []float32, l Lines) { pairRowsGo(dst, x, y, l) }

// Quads is for sets of arm64.
func (s Set) Quads([]float32) { panic("kernel: no quads in " + s.String()) }
