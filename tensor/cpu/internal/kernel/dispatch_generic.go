//go:build !amd64 && !arm64

package kernel

// NN runs one tile.
func (s Shape) NN(t *Tile) { s.set.nnPlain(t) }

// TN runs one tile.
func (s Shape) TN(t *TileT) { s.set.tnPlain(t) }

// Add is dst = x + y.
func (s Set) Add(dst, x, y []float32) { addGo(dst, x, y) }

// Scale is dst = alpha x.
func (s Set) Scale(dst, x []float32, alpha float32) { scaleGo(dst, x, alpha) }

// Blend is dst = alpha x + beta y.
func (s Set) Blend(dst, x, y []float32, alpha, beta float32) { s.blendPlain(dst, x, y, alpha, beta) }

// SiLU is dst = x sigmoid(x).
func (s Set) SiLU(dst, x []float32) { s.siluPlain(dst, x) }

// SiLUGrad is dst = y d silu(x)/dx.
func (s Set) SiLUGrad(dst, x, y []float32) { s.siluGradPlain(dst, x, y) }

// SoftmaxGrad is dst = scale y (x - sum).
func (s Set) SoftmaxGrad(dst, x, y []float32, scale, sum float32) {
	softmaxGradGo(dst, x, y, scale, sum)
}

// MaxScaled is the largest scale x, or -Inf; a NaN in x may or may not show.
func (s Set) MaxScaled(x []float32, scale float32) float32 { return maxScaledGo(x, scale) }

// Dot is the sum of x y.
func (s Set) Dot(x, y []float32) float32 { return s.dotPlain(x, y) }

// ExpSum is dst = exp(scale x - top), and returns its sum. It takes the exponent into
// [-86.5, 88] first.
func (s Set) ExpSum(dst, x []float32, scale, top float32) float32 {
	return s.expSumPlain(dst, x, scale, top)
}

// ColSums is Sum[0] = the sum of X over the rows.
func (s Set) ColSums(g *Grid) { colSumsGo(g) }

// ColMoments is Sum[0] = the sum of X-A, and Sum[1] = that of (X-A)^2.
func (s Set) ColMoments(g *Grid) { s.colMomentsPlain(g) }

// ColGrads is Sum[0] = the sum of Y, and Sum[1] = that of Y (X-A).
func (s Set) ColGrads(g *Grid) { s.colGradsPlain(g) }

// ColAffine is Dst = (X-A) B + C.
func (s Set) ColAffine(g *Grid) { s.colAffinePlain(g) }

// ColAffineSiLU is Dst = silu((X-A) B + C).
func (s Set) ColAffineSiLU(g *Grid) { s.colAffineSiLUPlain(g) }

// ColAffineSiLUGrad is Dst = Y silu'((X-A) B + C), with its sum in Sum[0] and that of
// Dst (X-A) in Sum[1].
func (s Set) ColAffineSiLUGrad(g *Grid) { s.colAffineSiLUGradPlain(g) }

// ColAffineSiLUDrop is Dst = silu((X-A) B + C) under the mask.
func (s Set) ColAffineSiLUDrop(g *Grid) { s.colAffineSiLUDropPlain(g) }

// ColAffineSiLUGradDrop is ColAffineSiLUGrad for Y under the mask.
func (s Set) ColAffineSiLUGradDrop(g *Grid) { s.colAffineSiLUGradDropPlain(g) }

// ColNormGrad is Dst = Y B - (X-A) C - D.
func (s Set) ColNormGrad(g *Grid) { s.colNormGradPlain(g) }

// Dropout is dst = x times the mask.
func (s Set) Dropout(dst, x []float32, m *Mask) { dropoutGo(dst, x, m) }

// MaskBits writes a bit for each of 64*words elements a row, 1 where the mask keeps
// the element; between two rows, skip blocks of four elements are left out.
func (s Set) MaskBits(dst []uint64, words, rows, skip int, m *Mask) {
	maskBitsGo(dst, words, rows, skip, m)
}

// Transpose is dst[c, r] = src[r, c] for r < rows and c < cols; ldd and lds are
// the lengths of the rows.
func (s Set) Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposeGo(dst, ldd, src, lds, rows, cols)
}

// Transform runs a transform on the patches.
func (s Set) Transform(tr Transform, p *Patch) { s.patchPlain(tr, p) }
