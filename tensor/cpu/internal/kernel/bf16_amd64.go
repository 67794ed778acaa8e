package kernel

import "github.com/agrdist/agrdist/internal/isa"

//go:generate sh -c "cd gen && go run . -group bf16 -out ../bf16_amd64.s && go run ./encode ../bf16_amd64.s"

//go:noescape
func nnAVX512BF16(t *Tile)

//go:noescape
func tnAVX512BF16(t *TileT)

//go:noescape
func nnAVX512BF16Wide(t *Tile)

//go:noescape
func tnAVX512BF16Wide(t *TileT)

//go:noescape
func roundBF16AVX2(dst, x *float32, n int)

//go:noescape
func roundBF16AVX512(dst, x *float32, n int)

//go:noescape
func pairAVX512BF16(dst, x *float32, n int)

//go:noescape
func pairRowsAVX512BF16(dst, x, y *float32, rows, cols, dstRow, srcRow int)

func vendor() (b, d, c uint32)

// BestBF16 is the set for products of bf16 operands on this processor: AVX512BF16
// where its instruction does twice the work of a float32 multiply-add in the same
// time, which is AMD's (Zen 4 and later). Intel's (measured on the fifth Xeon
// generation) do half of it, and float32 products of rounded operands are faster.
func BestBF16() Set {
	if b, d, c := vendor(); isa.AVX512BF16.Runs() && b == 0x68747541 && d == 0x69746e65 && c == 0x444d4163 { // AuthenticAMD
		return AVX512BF16
	}
	return Set(isa.Best())
}

// RoundBF16 is dst = x rounded to bf16: to nearest, ties to even.
func (s Set) RoundBF16(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		roundBF16Go(dst, x)
	case s == AVX2:
		roundBF16AVX2(&dst[0], &x[0], len(dst))
	default:
		roundBF16AVX512(&dst[0], &x[0], len(dst))
	}
}

// Pair is dst[i] = the pair (x[2i], x[2i+1]), of zero where x ends. dst has
// Pairs(len(x)) elements.
func (s Set) Pair(dst, x []float32) {
	dst = dst[:Pairs(len(x))]
	n := 0
	if s == AVX512BF16 {
		if n = len(x) / 32; n > 0 {
			pairAVX512BF16(&dst[0], &x[0], n)
		}
	}
	pairGo(dst[16*n:], x[32*n:])
}

// PairRows is dst[r, i] = the pair (x[r, i], y[r, i]).
func (s Set) PairRows(dst, x, y []float32, l Lines) {
	if l.Rows == 0 || l.Cols == 0 {
		return
	}
	if s != AVX512BF16 {
		pairRowsGo(dst, x, y, l)
		return
	}
	l.of(dst, x, y)
	pairRowsAVX512BF16(&dst[0], &x[0], &y[0], l.Rows, l.Cols, 4*l.Dst, 4*l.Src)
}

// nnPairs runs one tile of pairs.
func (s Shape) nnPairs(t *Tile) {
	if s.Cols == 64 {
		nnAVX512BF16Wide(t)
	} else {
		nnAVX512BF16(t)
	}
}

// tnPairs runs one tile of pairs.
func (s Shape) tnPairs(t *TileT) {
	if s.Cols == 64 {
		tnAVX512BF16Wide(t)
	} else {
		tnAVX512BF16(t)
	}
}

// Quads is for sets of arm64.
func (s Set) Quads([]float32) { panic("kernel: no quads in " + s.String()) }
