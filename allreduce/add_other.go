//go:build !amd64

package allreduce

// Add writes a[i] + b[i] to dst[i] for i in [0, n). The slices may be the
// same one, but must not overlap otherwise.
func Add(dst, a, b []float32, n int) {
	addGo(dst[:n], a[:n], b[:n])
}
