//go:build cuda

package cudatest_test

import (
	"testing"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

// BenchmarkDouble measures what tests cost: threads that run through, threads that
// wait, and the launch itself.
func BenchmarkDouble(b *testing.B) {
	dev := cudatest.Context(b, 0)
	m := cudatest.Module(b, dev, features)
	const n = 1 << 20
	x, y := cudatest.Alloc(b, n), cudatest.Alloc(b, n)
	if err := cu.MemsetD32(x, 0, n); err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name, kernel string
		blocks       int
	}{
		{"copy/threads=1M", "copy1", n / 128},
		{"barriers/threads=128k", "totals", n / 1024},
		{"launch", "copy1", 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			cudatest.Context(b, 0)
			f := cudatest.Function(b, m, bench.kernel)
			for b.Loop() {
				if err := cudatest.Launch(f, cu.NoStream, bench.blocks, 128, uint64(y), uint64(x), n); err != nil {
					b.Fatal(err)
				}
				if err := cu.Synchronize(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
