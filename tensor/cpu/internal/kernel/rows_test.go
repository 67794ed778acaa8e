//go:build !race

package kernel_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

func TestRows(t *testing.T) {
	for _, w := range twins() {
		set := w.set
		for _, rows := range []int{1, 3} {
			for _, cols := range []int{1, 7, 8, 16, 17, 31, 40, 100} {
				ld := cols + 5
				matrix := func() *kernel.Rows {
					m := &kernel.Rows{
						X: values(1, rows*ld), Y: values(2, rows*ld), Dst: values(3, rows*ld),
						Top: values(4, rows), Sum: values(5, rows), Rows: rows, Cols: cols, LD: ld, Scale: 0.7,
					}
					for i := range m.X {
						m.X[i] -= 10 // no zero of a masked lane may win
					}
					return m
				}
				for name, f := range map[string]func(s kernel.Set, m *kernel.Rows){
					"SoftmaxRows": kernel.Set.SoftmaxRows, "SoftmaxGradRows": kernel.Set.SoftmaxGradRows,
				} {
					want, got := matrix(), matrix()
					f(w.plain, want)
					f(set, got)
					what := fmt.Sprintf("%v: %s of %dx%d", set, name, rows, cols)
					for i, v := range [][]float32{want.X, want.Y, want.Dst, want.Top, want.Sum} {
						near(t, v, [][]float32{got.X, got.Y, got.Dst, got.Top, got.Sum}[i], w.tol(2e-6), "%s: %d", what, i)
					}
					require.NotEqual(t, values(3, rows*ld), got.Dst)
				}
			}
		}
	}
}
