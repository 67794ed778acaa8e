package kernel

// The assembly, written by gen.

//go:noescape
func nnAVX2(t *Tile)

//go:noescape
func tnAVX2(t *TileT)

//go:noescape
func nnAVX512(t *Tile)

//go:noescape
func tnAVX512(t *TileT)

//go:noescape
func nnAVX512Wide(t *Tile)

//go:noescape
func tnAVX512Wide(t *TileT)

//go:noescape
func addAVX2(dst, x, y *float32, n int)

//go:noescape
func addAVX512(dst, x, y *float32, n int)

//go:noescape
func scaleAVX2(dst, x *float32, n int, alpha float32)

//go:noescape
func scaleAVX512(dst, x *float32, n int, alpha float32)

//go:noescape
func blendAVX2(dst, x, y *float32, n int, alpha, beta float32)

//go:noescape
func blendAVX512(dst, x, y *float32, n int, alpha, beta float32)

//go:noescape
func siluAVX2(dst, x *float32, n int)

//go:noescape
func siluAVX512(dst, x *float32, n int)

//go:noescape
func siluGradAVX2(dst, x, y *float32, n int)

//go:noescape
func siluGradAVX512(dst, x, y *float32, n int)

//go:noescape
func softmaxGradAVX2(dst, x, y *float32, n int, scale, sum float32)

//go:noescape
func softmaxGradAVX512(dst, x, y *float32, n int, scale, sum float32)

//go:noescape
func maxScaledAVX2(x *float32, n int, scale float32) float32

//go:noescape
func maxScaledAVX512(x *float32, n int, scale float32) float32

//go:noescape
func dotAVX2(x, y *float32, n int) float32

//go:noescape
func dotAVX512(x, y *float32, n int) float32

//go:noescape
func expSumAVX2(dst, x *float32, n int, scale, top float32) float32

//go:noescape
func expSumAVX512(dst, x *float32, n int, scale, top float32) float32

//go:noescape
func colSumsAVX2(t *Grid)

//go:noescape
func colSumsAVX512(t *Grid)

//go:noescape
func colMomentsAVX2(t *Grid)

//go:noescape
func colMomentsAVX512(t *Grid)

//go:noescape
func colGradsAVX2(t *Grid)

//go:noescape
func colGradsAVX512(t *Grid)

//go:noescape
func colAffineAVX2(t *Grid)

//go:noescape
func colAffineAVX512(t *Grid)

//go:noescape
func colAffineSiLUAVX2(t *Grid)

//go:noescape
func colAffineSiLUAVX512(t *Grid)

//go:noescape
func colAffineSiLUGradAVX2(t *Grid)

//go:noescape
func colAffineSiLUGradAVX512(t *Grid)

//go:noescape
func colAffineSiLUDropAVX2(t *Grid)

//go:noescape
func colAffineSiLUDropAVX512(t *Grid)

//go:noescape
func colAffineSiLUGradDropAVX2(t *Grid)

//go:noescape
func colAffineSiLUGradDropAVX512(t *Grid)

//go:noescape
func colNormGradAVX2(t *Grid)

//go:noescape
func colNormGradAVX512(t *Grid)

//go:noescape
func dropoutAVX2(dst, x *float32, turns int, m *Mask)

//go:noescape
func dropoutAVX512(dst, x *float32, turns int, m *Mask)

//go:noescape
func maskBitsAVX2(dst *uint64, turns, rows, skip int, m *Mask)

//go:noescape
func maskBitsAVX512(dst *uint64, turns, rows, skip int, m *Mask)

//go:noescape
func transpose8(dst *float32, ldd int, src *float32, lds, blocks int)
