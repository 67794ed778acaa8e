package kernel

// The assembly, written by neon.

//go:noescape
func nnNEON(t *Tile)

//go:noescape
func tnNEON(t *TileT)

//go:noescape
func addNEON(dst, x, y *float32, n int)

//go:noescape
func scaleNEON(dst, x *float32, n int, alpha float32)

//go:noescape
func blendNEON(dst, x, y *float32, n int, alpha, beta float32)

//go:noescape
func siluNEON(dst, x *float32, n int)

//go:noescape
func siluGradNEON(dst, x, y *float32, n int)

//go:noescape
func softmaxGradNEON(dst, x, y *float32, n int, scale, sum float32)

//go:noescape
func maxScaledNEON(x *float32, n int, scale float32) float32

//go:noescape
func dotNEON(x, y *float32, n int) float32

//go:noescape
func expSumNEON(dst, x *float32, n int, scale, top float32) float32

//go:noescape
func colSumsNEON(t *Grid)

//go:noescape
func colMomentsNEON(t *Grid)

//go:noescape
func colGradsNEON(t *Grid)

//go:noescape
func colAffineNEON(t *Grid)

//go:noescape
func colAffineSiLUNEON(t *Grid)

//go:noescape
func colAffineSiLUGradNEON(t *Grid)

//go:noescape
func colAffineSiLUDropNEON(t *Grid)

//go:noescape
func colAffineSiLUGradDropNEON(t *Grid)

//go:noescape
func colNormGradNEON(t *Grid)

//go:noescape
func dropoutNEON(dst, x *float32, turns int, m *Mask)

//go:noescape
func maskBitsNEON(dst *uint64, turns, rows, skip int, m *Mask)

//go:noescape
func winogradInputNEON(t *Patch)

//go:noescape
func winogradFilterNEON(t *Patch)

//go:noescape
func winogradOutputNEON(t *Patch)

//go:noescape
func winogradGradNEON(t *Patch)

//go:noescape
func winogradFilterGradNEON(t *Patch)

//go:noescape
func winogradInputRowNEON(t *Patch)

//go:noescape
func winogradGradRowNEON(t *Patch)

//go:noescape
func softmaxRowsNEON(t *Rows)

//go:noescape
func softmaxGradRowsNEON(t *Rows)

//go:noescape
func roundBF16NEON(dst, x *float32, n int)

//go:noescape
func nnBF16NEON(t *Tile)

//go:noescape
func tnBF16NEON(t *TileT)

//go:noescape
func pairBF16NEON(dst, x *float32, n int)

//go:noescape
func pairRowsBF16NEON(dst, x, y *float32, rows, cols, dstRow, srcRow int)

//go:noescape
func quadsBF16NEON(dst *float32, n int)

//go:noescape
func transpose4NEON(dst *float32, ldd int, src *float32, lds, blocks int)
