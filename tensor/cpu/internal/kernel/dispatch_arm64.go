package kernel

// NN runs one tile.
func (s Shape) NN(t *Tile) {
	switch {
	case t.Rows == 0:
	case s.set.plain() || t.K == 0 || len(t.Tap) == 0:
		s.set.nnPlain(t)
	case s.set == NEONBF16:
		nnBF16NEON(t)
	default:
		nnNEON(t)
	}
}

// TN runs one tile.
func (s Shape) TN(t *TileT) {
	switch {
	case t.Rows == 0:
	case s.set.plain() || t.P == 0 || len(t.ASeg) == 0:
		s.set.tnPlain(t)
	case s.set == NEONBF16:
		tnBF16NEON(t)
	default:
		tnNEON(t)
	}
}

// Add is dst = x + y.
func (s Set) Add(dst, x, y []float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		addGo(dst, x, y)
	default:
		addNEON(&dst[0], &x[0], &y[0], len(dst))
	}
}

// Scale is dst = alpha x.
func (s Set) Scale(dst, x []float32, alpha float32) {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		scaleGo(dst, x, alpha)
	default:
		scaleNEON(&dst[0], &x[0], len(dst), alpha)
	}
}

// Blend is dst = alpha x + beta y.
func (s Set) Blend(dst, x, y []float32, alpha, beta float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.blendPlain(dst, x, y, alpha, beta)
	default:
		blendNEON(&dst[0], &x[0], &y[0], len(dst), alpha, beta)
	}
}

// SiLU is dst = x sigmoid(x).
func (s Set) SiLU(dst, x []float32) {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.siluPlain(dst, x)
	default:
		siluNEON(&dst[0], &x[0], len(dst))
	}
}

// SiLUGrad is dst = y d silu(x)/dx.
func (s Set) SiLUGrad(dst, x, y []float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		s.siluGradPlain(dst, x, y)
	default:
		siluGradNEON(&dst[0], &x[0], &y[0], len(dst))
	}
}

// SoftmaxGrad is dst = scale y (x - sum).
func (s Set) SoftmaxGrad(dst, x, y []float32, scale, sum float32) {
	x = x[:len(dst)]
	y = y[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		softmaxGradGo(dst, x, y, scale, sum)
	default:
		softmaxGradNEON(&dst[0], &x[0], &y[0], len(dst), scale, sum)
	}
}

// MaxScaled is the largest scale x, or -Inf; a NaN in x may or may not show.
func (s Set) MaxScaled(x []float32, scale float32) float32 {
	switch {
	case s.plain() || len(x) == 0:
		return maxScaledGo(x, scale)
	default:
		return maxScaledNEON(&x[0], len(x), scale)
	}
}

// Dot is the sum of x y.
func (s Set) Dot(x, y []float32) float32 {
	y = y[:len(x)]
	switch {
	case s.plain() || len(x) == 0:
		return s.dotPlain(x, y)
	default:
		return dotNEON(&x[0], &y[0], len(x))
	}
}

// ExpSum is dst = exp(scale x - top), and returns its sum. It takes the exponent into
// [-86.5, 88] first.
func (s Set) ExpSum(dst, x []float32, scale, top float32) float32 {
	x = x[:len(dst)]
	switch {
	case s.plain() || len(dst) == 0:
		return s.expSumPlain(dst, x, scale, top)
	default:
		return expSumNEON(&dst[0], &x[0], len(dst), scale, top)
	}
}

// ColSums is Sum[0] = the sum of X over the rows.
func (s Set) ColSums(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		colSumsGo(g)
	default:
		colSumsNEON(g)
	}
}

// ColMoments is Sum[0] = the sum of X-A, and Sum[1] = that of (X-A)^2.
func (s Set) ColMoments(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colMomentsPlain(g)
	default:
		colMomentsNEON(g)
	}
}

// ColGrads is Sum[0] = the sum of Y, and Sum[1] = that of Y (X-A).
func (s Set) ColGrads(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colGradsPlain(g)
	default:
		colGradsNEON(g)
	}
}

// ColAffine is Dst = (X-A) B + C.
func (s Set) ColAffine(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffinePlain(g)
	default:
		colAffineNEON(g)
	}
}

// ColAffineSiLU is Dst = silu((X-A) B + C).
func (s Set) ColAffineSiLU(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUPlain(g)
	default:
		colAffineSiLUNEON(g)
	}
}

// ColAffineSiLUGrad is Dst = Y silu'((X-A) B + C), with its sum in Sum[0] and that of
// Dst (X-A) in Sum[1].
func (s Set) ColAffineSiLUGrad(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUGradPlain(g)
	default:
		colAffineSiLUGradNEON(g)
	}
}

// ColAffineSiLUDrop is Dst = silu((X-A) B + C) under the mask.
func (s Set) ColAffineSiLUDrop(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUDropPlain(g)
	default:
		colAffineSiLUDropNEON(g)
	}
}

// ColAffineSiLUGradDrop is ColAffineSiLUGrad for Y under the mask.
func (s Set) ColAffineSiLUGradDrop(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colAffineSiLUGradDropPlain(g)
	default:
		colAffineSiLUGradDropNEON(g)
	}
}

// ColNormGrad is Dst = Y B - (X-A) C - D.
func (s Set) ColNormGrad(g *Grid) {
	switch {
	case s.plain() || g.Rows == 0:
		s.colNormGradPlain(g)
	default:
		colNormGradNEON(g)
	}
}

// Dropout is dst = x times the mask.
func (s Set) Dropout(dst, x []float32, m *Mask) {
	const turn = 16 // elements of one turn of the assembly
	n := 0
	if !s.plain() {
		n = len(dst) / turn * turn
	}
	if n > 0 {
		x = x[:len(dst)]
		dropoutNEON(&dst[0], &x[0], n/turn, m)
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
	default:
		maskBitsNEON(&dst[0], 4*words, rows, skip, m)
	}
}

// Transpose is dst[c, r] = src[r, c] for r < rows and c < cols; ldd and lds are
// the lengths of the rows.
func (s Set) Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if s.plain() || rows < 4 || cols < 4 {
		transposeGo(dst, ldd, src, lds, rows, cols)
		return
	}
	r4, c4 := rows&^3, cols&^3
	for r := 0; r < r4; r += 4 {
		transpose4NEON(&dst[r], ldd, &src[r*lds], lds, c4/4)
	}
	if c4 < cols {
		transposeGo(dst[c4*ldd:], ldd, src[c4:], lds, r4, cols-c4)
	}
	if r4 < rows {
		transposeGo(dst[r4:], ldd, src[r4*lds:], lds, rows-r4, cols)
	}
}
