package kernel

// transposeGo is dst[c, r] = src[r, c] for r < rows and c < cols.
func transposeGo(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for r := range rows {
		for c, v := range src[r*lds:][:cols] {
			dst[c*ldd+r] = v
		}
	}
}
