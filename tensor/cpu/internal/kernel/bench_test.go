package kernel_test

import (
	"fmt"
	"testing"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// BenchmarkTile times full tiles whose operands stay in the cache: what the
// drivers can reach at best.
func BenchmarkTile(b *testing.B) {
	const k, taps, pixels = 64, 9, 256
	sets := kernel.Supported()
	if isa.AVX512BF16.Runs() {
		sets = append(sets, kernel.AVX512BF16)
	}
	for _, set := range sets {
		values := 1 // of an element of A and B
		if set == kernel.AVX512BF16 {
			values = 2
		}
		for _, n := range []int{32, 64} {
			shape := set.Shape(n)
			mr, nr := shape.Rows, shape.Cols
			t := kernel.Tile{
				A: make([]float32, (mr+taps)*k), B: make([]float32, taps*k*nr), C: make([]float32, mr*nr),
				K: k, LDB: nr, Rows: mr, Cols: nr, Fresh: true,
			}
			for i := range mr {
				t.ARow, t.CRow = append(t.ARow, i*k), append(t.CRow, i*nr)
			}
			for i := range taps {
				t.Tap = append(t.Tap, i*k)
			}
			b.Run(fmt.Sprintf("NN/%v/%dx%d", set, mr, nr), func(b *testing.B) {
				for b.Loop() {
					shape.NN(&t)
				}
				rate(b, 2*mr*nr*k*values*taps)
			})
			u := kernel.TileT{
				A: make([]float32, pixels*mr), ASeg: []int{0}, B: make([]float32, pixels*nr), BSeg: []int{0},
				C: make([]float32, mr*nr), P: pixels, AStep: mr, BStep: nr, LDC: nr, Rows: mr, Cols: nr,
			}
			b.Run(fmt.Sprintf("TN/%v/%dx%d", set, mr, nr), func(b *testing.B) {
				for b.Loop() {
					shape.TN(&u)
				}
				rate(b, 2*mr*nr*pixels*values)
			})
		}
	}
}

func rate(b *testing.B, flop int) {
	b.Helper()
	b.ReportMetric(float64(flop)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
