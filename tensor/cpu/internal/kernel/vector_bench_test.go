//go:build !race

package kernel_test

import (
	"fmt"
	"testing"

	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// BenchmarkGrid times the kernels of normalisation on operands that stay in the
// cache: elements a nanosecond.
func BenchmarkGrid(b *testing.B) {
	const rows, cols = 128, 64
	v := func() []float32 { return make([]float32, rows*cols+kernel.Slack) }
	g := kernel.Grid{
		X: v(), Y: v(), Dst: v(), A: v(), B: v(), C: v(), D: v(), Sum: [2][]float32{v(), v()},
		Rows: rows, Cols: cols, LD: cols, Bits: make([]uint64, rows*cols/64), Keep: 1.25,
	}
	m := someMask()
	for _, set := range kernel.Supported()[1:] {
		for _, k := range []struct {
			name string
			f    func()
		}{
			{"ColSums", func() { set.ColSums(&g) }},
			{"ColMoments", func() { set.ColMoments(&g) }},
			{"ColAffine", func() { set.ColAffine(&g) }},
			{"ColAffineSiLU", func() { set.ColAffineSiLU(&g) }},
			{"ColAffineSiLUDrop", func() { set.ColAffineSiLUDrop(&g) }},
			{"ColAffineSiLUGrad", func() { set.ColAffineSiLUGrad(&g) }},
			{"ColAffineSiLUGradDrop", func() { set.ColAffineSiLUGradDrop(&g) }},
			{"ColNormGrad", func() { set.ColNormGrad(&g) }},
			{"MaskBits", func() { set.MaskBits(g.Bits, len(g.Bits), 1, 0, &m) }},
			{"Dropout", func() { set.Dropout(g.Dst[:rows*cols], g.X, &m) }},
			{"SiLU", func() { set.SiLU(g.Dst[:rows*cols], g.X) }},
		} {
			b.Run(fmt.Sprintf("%v/%s", set, k.name), func(b *testing.B) {
				for b.Loop() {
					k.f()
				}
				b.ReportMetric(float64(rows*cols)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "elements/ns")
			})
		}
	}
}
