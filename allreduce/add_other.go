//go:build !amd64

package allreduce

// addTo writes a[i] + b[i] to dst[i] for i in [0, n). The slices may be the
// same one, but must not overlap otherwise.
func addTo(dst, a, b []float32, n int) {
	addGo(dst[:n], a[:n], b[:n])
}
