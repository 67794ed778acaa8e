package kernel

//go:generate sh -c "cd gen && go run . -group tile -out ../tile_amd64.s"
//go:generate sh -c "cd gen && go run . -group vector -out ../vector_amd64.s"
//go:generate sh -c "cd gen && go run . -group patch -out ../patch_amd64.s"

// NN runs one tile.
func (s Shape) NN(t *Tile) {
	switch {
	case t.Rows == 0:
	case s.set.plain() || t.K == 0 || len(t.Tap) == 0:
		s.set.nnPlain(t)
	case s.set == AVX2:
		nnAVX2(t)
	case s.set == AVX512BF16:
		s.nnPairs(t)
	case s.Cols == 64:
		nnAVX512Wide(t)
	default:
		nnAVX512(t)
	}
}

// TN runs one tile.
func (s Shape) TN(t *TileT) {
	switch {
	case t.Rows == 0:
	case s.set.plain() || t.P == 0 || len(t.ASeg) == 0:
		s.set.tnPlain(t)
	case s.set == AVX2:
		tnAVX2(t)
	case s.set == AVX512BF16:
		s.tnPairs(t)
	case s.Cols == 64:
		tnAVX512Wide(t)
	default:
		tnAVX512(t)
	}
}

// Add is dst = x + y.
func (s Set) Add(dst, x, y []float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		addGo(dst, x, y)
	case s == AVX2:
		addAVX2(&dst[0], &x[0], &y[0], len(dst))
	default:
		addAVX512(&dst[0], &x[0], &y[0], len(dst))
	}
}

// Scale is dst = alpha x.
func (s Set) Scale(dst, x []float32, alpha float32) {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		scaleGo(dst, x, alpha)
	case s == AVX2:
		scaleAVX2(&dst[0], &x[0], len(dst), alpha)
	default:
		scaleAVX512(&dst[0], &x[0], len(dst), alpha)
	}
}

// Blend is dst = alpha x + beta y.
func (s Set) Blend(dst, x, y []float32, alpha, beta float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.blendPlain(dst, x, y, alpha, beta)
	case s == AVX2:
		blendAVX2(&dst[0], &x[0], &y[0], len(dst), alpha, beta)
	default:
		blendAVX512(&dst[0], &x[0], &y[0], len(dst), alpha, beta)
	}
}

// SiLU is dst = x sigmoid(x).
func (s Set) SiLU(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.siluPlain(dst, x)
	case s == AVX2:
		siluAVX2(&dst[0], &x[0], len(dst))
	default:
		siluAVX512(&dst[0], &x[0], len(dst))
	}
}

// SiLUGrad is dst = y d silu(x)/dx.
func (s Set) SiLUGrad(dst, x, y []float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.siluGradPlain(dst, x, y)
	case s == AVX2:
		siluGradAVX2(&dst[0], &x[0], &y[0], len(dst))
	default:
		siluGradAVX512(&dst[0], &x[0], &y[0], len(dst))
	}
}

// SoftmaxGrad is dst = scale y (x - sum).
func (s Set) SoftmaxGrad(dst, x, y []float32, scale, sum float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		softmaxGradGo(dst, x, y, scale, sum)
	case s == AVX2:
		softmaxGradAVX2(&dst[0], &x[0], &y[0], len(dst), scale, sum)
	default:
		softmaxGradAVX512(&dst[0], &x[0], &y[0], len(dst), scale, sum)
	}
}

// MaxScaled is the largest scale x, or -Inf; a NaN in x may or may not show.
func (s Set) MaxScaled(x []float32, scale float32) float32 {
	switch {
	case s.plain() || len(x) == 0:
		return maxScaledGo(x, scale)
	case s == AVX2:
		return maxScaledAVX2(&x[0], len(x), scale)
	default:
		return maxScaledAVX512(&x[0], len(x), scale)
	}
}

// Dot is the sum of x y.
func (s Set) Dot(x, y []float32) float32 {
	y = y[:len(x)]
	switch {
	case s.plain() || len(x) == 0:
		return s.dotPlain(x, y)
	case s.eight():
		return dotAVX2(&x[0], &y[0], len(x))
	default:
		return dotAVX512(&x[0], &y[0], len(x))
	}
}

// ExpSum is dst = exp(scale x - top), and returns its sum. It takes the exponent into
// [-86.5, 88] first.
func (s Set) ExpSum(dst, x []float32, scale, top float32) float32 {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		return s.expSumPlain(dst, x, scale, top)
	case s.eight():
		return expSumAVX2(&dst[0], &x[0], len(dst), scale, top)
	default:
		return expSumAVX512(&dst[0], &x[0], len(dst), scale, top)
	}
}

// ColSums is Sum[0] = the sum of X over the rows.
func (s Set) ColSums(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		colSumsGo(g)
	case s == AVX2:
		colSumsAVX2(g)
	default:
		colSumsAVX512(g)
	}
}

// ColMoments is Sum[0] = the sum of X-A, and Sum[1] = that of (X-A)^2.
func (s Set) ColMoments(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colMomentsPlain(g)
	case s == AVX2:
		colMomentsAVX2(g)
	default:
		colMomentsAVX512(g)
	}
}

// ColGrads is Sum[0] = the sum of Y, and Sum[1] = that of Y (X-A).
func (s Set) ColGrads(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colGradsPlain(g)
	case s == AVX2:
		colGradsAVX2(g)
	default:
		colGradsAVX512(g)
	}
}

// ColAffine is Dst = (X-A) B + C.
func (s Set) ColAffine(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffinePlain(g)
	case s == AVX2:
		colAffineAVX2(g)
	default:
		colAffineAVX512(g)
	}
}

// ColAffineSiLU is Dst = silu((X-A) B + C).
func (s Set) ColAffineSiLU(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUPlain(g)
	case s == AVX2:
		colAffineSiLUAVX2(g)
	default:
		colAffineSiLUAVX512(g)
	}
}

// ColAffineSiLUGrad is Dst = Y silu'((X-A) B + C), with its sum in Sum[0] and that of
// Dst (X-A) in Sum[1].
func (s Set) ColAffineSiLUGrad(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUGradPlain(g)
	case s == AVX2:
		colAffineSiLUGradAVX2(g)
	default:
		colAffineSiLUGradAVX512(g)
	}
}

// ColAffineSiLUDrop is Dst = silu((X-A) B + C) under the mask.
func (s Set) ColAffineSiLUDrop(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUDropPlain(g)
	case s == AVX2:
		colAffineSiLUDropAVX2(g)
	default:
		colAffineSiLUDropAVX512(g)
	}
}

// ColAffineSiLUGradDrop is ColAffineSiLUGrad for Y under the mask.
func (s Set) ColAffineSiLUGradDrop(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUGradDropPlain(g)
	case s == AVX2:
		colAffineSiLUGradDropAVX2(g)
	default:
		colAffineSiLUGradDropAVX512(g)
	}
}

// ColNormGrad is Dst = Y B - (X-A) C - D.
func (s Set) ColNormGrad(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colNormGradPlain(g)
	case s == AVX2:
		colNormGradAVX2(g)
	default:
		colNormGradAVX512(g)
	}
}

// Dropout is dst = x times the mask.
func (s Set) Dropout(dst, x []float32, m *Mask) {
	turn := 64 // elements of one turn of the assembly
	if s == AVX2 {
		turn = 32
	}
	n := 0
	if !s.plain() {
		n = len(dst) / turn * turn
	}
	if n > 0 {
		x = x[:len(dst)]
		if s == AVX2 {
			dropoutAVX2(&dst[0], &x[0], n/turn, m)
		} else {
			dropoutAVX512(&dst[0], &x[0], n/turn, m)
		}
	}
	rest := *m
	rest.Block += uint32(n / 4)
	dropoutGo(dst[n:], x[n:], &rest)
}

// MaskBits writes a bit for each of 64*words elements a row, 1 where the mask keeps
// the element; between two rows, skip blocks of four elements are left out.
func (s Set) MaskBits(dst []uint64, words, rows, skip int, m *Mask) {
	_ = dst[:words*rows]
	switch {
	case s.plain() || words*rows == 0:
		maskBitsGo(dst, words, rows, skip, m)
	case s == AVX2:
		maskBitsAVX2(&dst[0], 2*words, rows, skip, m)
	default:
		maskBitsAVX512(&dst[0], words, rows, skip, m)
	}
}

// Transpose is dst[c, r] = src[r, c] for r < rows and c < cols; ldd and lds are
// the lengths of the rows.
func (s Set) Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if s.plain() || rows < 8 || cols < 8 {
		transposeGo(dst, ldd, src, lds, rows, cols)
		return
	}
	r8, c8 := rows&^7, cols&^7
	for r := 0; r < r8; r += 8 {
		transpose8(&dst[r], ldd, &src[r*lds], lds, c8/8)
	}
	if c8 < cols {
		transposeGo(dst[c8*ldd:], ldd, src[c8:], lds, r8, cols-c8)
	}
	if r8 < rows {
		transposeGo(dst[r8:], ldd, src[r8*lds:], lds, rows-r8, cols)
	}
}
