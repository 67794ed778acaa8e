//go:build !race

package kernel_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// square is a transform of one patch of in x in elements, vectors of cols, in the
// plainest layout.
func square(set kernel.Set, tr kernel.Transform, in, out, cols int, src []float32) []float32 {
	dst := make([]float32, out*out*cols, out*out*cols+kernel.Slack)
	set.Transform(tr, &kernel.Patch{
		Src: src, SrcRow: in * cols, SrcCol: cols, Dst: dst, DstRow: out * cols, DstCol: cols,
		N: 1, Cols: cols, RowHi: in, ColHi: in, Bias: make([]float32, cols+kernel.Slack),
	})
	return dst
}

// The identities that the transforms are made for, against sums in float64.
func TestTransformsConvolve(t *testing.T) {
	const cols = 19
	times := func(x, y []float32) []float32 {
		z := make([]float32, len(x), len(x)+kernel.Slack)
		for i := range z {
			z[i] = x[i] * y[i]
		}
		return z
	}
	d, g, y := values(1, 36*cols), values(2, 9*cols), values(3, 16*cols)
	var want [16 * cols]float64
	var wantGrad [9 * cols]float64
	for p := range 16 {
		for k := range 9 {
			for c := range cols {
				x := float64(d[((p/4+k/3)*6+p%4+k%3)*cols+c])
				want[p*cols+c] += x * float64(g[k*cols+c])
				wantGrad[k*cols+c] += x * float64(y[p*cols+c])
			}
		}
	}
	for _, set := range append(kernel.Supported(), kernel.PortableGo) {
		v := square(set, kernel.WinogradInput, 6, 6, cols, d)
		u := square(set, kernel.WinogradFilter, 3, 6, cols, g)
		for i, got := range square(set, kernel.WinogradOutput, 6, 4, cols, times(v, u)) {
			require.InDelta(t, want[i], got, 1e-5*(1+math.Abs(want[i])), "%v: output %d", set, i)
		}
		u = square(set, kernel.WinogradGrad, 4, 6, cols, y)
		for i, got := range square(set, kernel.WinogradFilterGrad, 6, 3, cols, times(v, u)) {
			require.InDelta(t, wantGrad[i], got, 1e-5*(1+math.Abs(wantGrad[i])), "%v: gradient %d", set, i)
		}
	}
}

// Runs of patches with space between their elements, in all limits and with all
// operands.
func TestPatches(t *testing.T) {
	for _, tr := range []struct {
		kernel.Transform
		in, out int
		limits  bool
	}{
		{kernel.WinogradInput, 6, 6, true},
		{kernel.WinogradFilter, 3, 6, false},
		{kernel.WinogradOutput, 6, 4, false},
		{kernel.WinogradGrad, 4, 6, true},
		{kernel.WinogradFilterGrad, 6, 3, false},
		{kernel.WinogradInputRow, 6, 6, true},
		{kernel.WinogradGradRow, 4, 6, true},
	} {
		for _, cols := range []int{1, 7, 8, 16, 17, 31, 40} {
			for kind := range 5 {
				ld, n := cols+5, 3
				patch := func() *kernel.Patch {
					p := &kernel.Patch{
						Src: values(1, n*tr.in*tr.in*ld), Dst: values(2, n*tr.out*tr.out*ld), N: n, Cols: cols,
						SrcRow: ld, SrcCol: n * tr.in * ld, SrcStep: tr.in * ld,
						DstRow: n * tr.out * ld, DstCol: ld, DstStep: tr.out * ld,
						RowHi: tr.in, ColHi: tr.in, Row: cols % 6,
					}
					switch {
					case tr.Transform == kernel.WinogradOutput:
						p.Bias = values(3, cols)
						p.Residual = [][]float32{nil, values(4, len(p.Dst)), p.Dst}[kind%3]
					case tr.limits && kind > 0:
						// The rows and columns outside of the limits are nowhere in Src.
						p.RowLo, p.RowHi = kind%2, tr.in-kind/2%2
						p.ColLo, p.ColHi = kind/2%2, tr.in-kind%2
						p.SrcAt = -p.RowLo*p.SrcRow - p.ColLo*p.SrcCol
						p.Zeros = make([]float32, tr.in*p.SrcCol+kernel.Slack)
					}
					return p
				}
				before := patch().Dst
				for _, w := range twins() {
					want, got := patch(), patch()
					w.plain.Transform(tr.Transform, want)
					w.set.Transform(tr.Transform, got)
					near(t, want.Dst, got.Dst, w.tol(1e-5), "%v: transform %d of %d channels, kind %d", w.set, tr.Transform, cols, kind)
					require.False(t, slices.Equal(before, want.Dst), "nothing was written")
				}
			}
		}
	}
}

// The rows that are made alone are those of the whole, to the bit.
func TestRowsAreThoseOfTheWhole(t *testing.T) {
	const cols = 35
	for _, tr := range []struct {
		whole, row kernel.Transform
		in         int
	}{{kernel.WinogradInput, kernel.WinogradInputRow, 6}, {kernel.WinogradGrad, kernel.WinogradGradRow, 4}} {
		for _, set := range append(kernel.Supported(), kernel.PortableGo) {
			src := values(1, tr.in*tr.in*cols)
			want := square(set, tr.whole, tr.in, 6, cols, src)
			for row := range 6 {
				got := make([]float32, 6*cols, 6*cols+kernel.Slack)
				set.Transform(tr.row, &kernel.Patch{
					Src: src, SrcRow: tr.in * cols, SrcCol: cols, Dst: got, DstCol: cols,
					N: 1, Cols: cols, RowHi: tr.in, ColHi: tr.in, Row: row,
				})
				require.Equal(t, want[row*6*cols:][:6*cols], got, "%v: transform %d, row %d", set, tr.row, row)
			}
		}
	}
}
