package allreduce

//go:noescape
func addSSE(dst, a, b *float32, n int)

// Add writes a[i] + b[i] to dst[i] for i in [0, n). The slices may be the
// same one, but must not overlap otherwise.
func Add(dst, a, b []float32, n int) {
	dst, a, b = dst[:n], a[:n], b[:n]
	if whole := n &^ 15; whole > 0 {
		addSSE(&dst[0], &a[0], &b[0], whole)
		dst, a, b = dst[whole:], a[whole:], b[whole:]
	}
	addGo(dst, a, b)
}
