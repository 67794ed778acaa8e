package kernel

// Transpose is dst[c, r] = src[r, c] for r < rows and c < cols; ldd and lds are
// the lengths of the rows.
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for r := range rows {
		for c, v := range src[r*lds:][:cols] {
			dst[c*ldd+r] = v
		}
	}
}
