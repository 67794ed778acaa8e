package agr

import (
	"testing"

	"github.com/agrdist/agrdist/optim"
)

func BenchmarkZNorms(b *testing.B) {
	const n = 35_000_000
	x := make([]float32, n)
	for i := range x {
		x[i] = 1
	}
	for _, k := range append(vectorKernels(), kernels{name: "go", norms: optim.Norms}) {
		b.Run(k.name, func(b *testing.B) {
			m := optim.NewMeter(optim.Whole(n), nil, k.norms)
			b.SetBytes(4 * n)
			for b.Loop() {
				m.Measure(x)
			}
		})
	}
	for _, size := range []int{16384, 4096} { // in cache: compute bound
		k := vectorKernels()[0]
		b.Run("adan in cache", func(b *testing.B) {
			var c coefficients
			c[kOne] = 1
			for i := range c {
				c[i] = 0.5
			}
			s := make([][]float32, 7)
			for i := range s {
				s[i] = make([]float32, size)
				for j := range s[i] {
					s[i][j] = 1.5
				}
			}
			b.SetBytes(52 * int64(size))
			for b.Loop() {
				k.adan(&c, inf32, size, &s[0][0], &s[1][0], &s[2][0], &s[3][0], &s[4][0], &s[5][0], &s[6][0])
			}
		})
	}
}
