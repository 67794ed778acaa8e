package kernel

// Add is dst = x + y. x and y are at least as long as dst.
func Add(dst, x, y []float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

// Scale is dst = alpha x.
func Scale(dst, x []float32, alpha float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = alpha * x[i]
	}
}

// Transpose is dst[c, r] = src[r, c] for r < rows and c < cols; ldd and lds are
// the lengths of the rows.
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for r := range rows {
		for c, v := range src[r*lds:][:cols] {
			dst[c*ldd+r] = v
		}
	}
}
