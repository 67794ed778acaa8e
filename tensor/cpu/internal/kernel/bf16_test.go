//go:build !race

package kernel_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// specials are what rounding gets wrong: ties, the last value before Inf, NaNs
// whose payload overflows or lies in the lower half, denormals.
var specials = []uint32{
	0x3f800000, 0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x3fff8000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff,
	0x7f800000, 0xff800000, 0x7fffffff, 0xffffffff, 0x7f800001, 0xff808000, 0, 0x80000000, 0x00000001, 0x80008000, 0x00018000,
}

// rounded is v in bf16 by the definition: the nearer of its two neighbours, the
// even one when both are as near.
func rounded(v float32) float32 {
	if v != v || math.IsInf(float64(v), 0) {
		return v
	}
	down := math.Float32bits(v) &^ 0xffff
	up := down + 1<<16
	at := func(u uint32) float64 {
		if u&0x7fffffff == 0x7f800000 { // Inf's place on the line
			return math.Copysign(0x1p128, float64(v))
		}
		return float64(math.Float32frombits(u))
	}
	below, above := math.Abs(float64(v)-at(down)), math.Abs(at(up)-float64(v))
	if above < below || above == below && down>>16&1 == 1 {
		return math.Float32frombits(up)
	}
	return math.Float32frombits(down)
}

func TestRoundBF16(t *testing.T) {
	for _, set := range kernel.Supported() {
		for _, n := range sizes {
			x, got := values(1, n), values(2, n)
			for i := range min(n, len(specials)) {
				x[i] = math.Float32frombits(specials[(i+n)%len(specials)])
			}
			set.RoundBF16(got, x)
			for i, v := range x {
				want := rounded(v)
				require.True(t, want == got[i] && math.Signbit(float64(want)) == math.Signbit(float64(got[i])) || want != want && got[i] != got[i],
					"%v: %x of %d elements: got %x, want %x", set, math.Float32bits(v), n, math.Float32bits(got[i]), math.Float32bits(want))
				require.Zero(t, math.Float32bits(got[i])&0xffff)
			}
			near(t, values(2, n)[n:cap(x)], got[n:cap(got)], 0, "%v: slack", set)
		}
	}
}

// pairing lists the sets that make pairs.
func pairing() []kernel.Set {
	all := []kernel.Set{kernel.Go}
	for _, set := range []kernel.Set{kernel.AVX512BF16, kernel.NEONBF16} {
		if isa.Set(set).Runs() {
			all = append(all, set)
		}
	}
	return all
}

// halves are the values of a pair.
func halves(p float32) (first, second float32) {
	u := math.Float32bits(p)
	return math.Float32frombits(u & 0xffff0000), math.Float32frombits(u << 16)
}

func TestPair(t *testing.T) {
	equal := func(want, got float32) bool { return want == got || want != want && got != got }
	for _, set := range pairing() {
		for _, n := range sizes {
			x, y := values(1, n), values(2, n)
			for i := range min(n, 15) { // but for denormals, which the instructions make zero
				x[(i*5+n)%n], y[i] = math.Float32frombits(specials[i]), math.Float32frombits(specials[14-i])
			}
			dst := values(3, n)
			set.PairRows(dst, x, y, kernel.Lines{Rows: 1, Cols: n})
			for i, p := range dst {
				a, b := halves(p)
				require.True(t, equal(rounded(x[i]), a) && equal(rounded(y[i]), b), "%v: rows, %d of %d: %v, %v", set, i, n, a, b)
			}
			set.Pair(dst[:kernel.Pairs(n)], x)
			for i, p := range dst[:kernel.Pairs(n)] {
				var second float32
				if 2*i+1 < n {
					second = x[2*i+1]
				}
				a, b := halves(p)
				require.True(t, equal(rounded(x[2*i]), a) && equal(rounded(second), b), "%v: %d of %d: %v, %v", set, i, n, a, b)
			}
		}
	}
}

// Rows of pairs, some way apart, with nothing written between them.
func TestPairRows(t *testing.T) {
	for _, set := range pairing() {
		for _, cols := range []int{1, 3, 15, 16, 17, 32, 40, 64} {
			for rows := range 4 {
				l := kernel.Lines{Rows: rows, Cols: cols, Dst: cols + 3, Src: 2*cols + 1}
				x, y := values(1, 300+4*l.Src), values(2, 300+4*l.Src)
				dst, want := values(3, 4*l.Dst), values(3, 4*l.Dst)
				set.PairRows(dst, x, y, l)
				for r := range rows {
					for i := range cols {
						a, b := halves(dst[r*l.Dst+i])
						require.Equal(t, []float32{rounded(x[r*l.Src+i]), rounded(y[r*l.Src+i])}, []float32{a, b}, "%v: %+v: row %d, column %d", set, l, r, i)
						want[r*l.Dst+i] = dst[r*l.Dst+i]
					}
				}
				near(t, want, dst, 0, "%v: %+v: between the rows", set, l)
			}
		}
		require.Panics(t, func() {
			set.PairRows(values(1, 31), values(2, 32), values(3, 32), kernel.Lines{Rows: 2, Cols: 16, Dst: 16, Src: 16})
		})
	}
}

// pairShapes are the tiles of pairs of this processor.
func pairShapes(t *testing.T) []kernel.Shape {
	t.Helper()
	all := pairing()
	last := all[len(all)-1]
	if last == kernel.AVX512BF16 {
		return []kernel.Shape{kernel.AVX512BF16.Shape(32), kernel.AVX512BF16.Shape(64)}
	}
	if last == kernel.NEONBF16 {
		return []kernel.Shape{kernel.NEONBF16.Shape(16)}
	}
	t.Skip("this processor has neither AVX512-BF16 nor FEAT_BF16")
	return nil
}

// unpaired is a matrix of pairs as the float32 matrix that it stands for: across,
// with two columns for one; or down, with two rows of width w for one.
func unpaired(x []float32, w int, down bool) []float32 {
	out := make([]float32, 2*len(x)+kernel.Slack)
	for i, p := range x {
		first, second := 2*i, 2*i+1
		if down {
			first = i/w*2*w + i%w
			second = first + w
		}
		out[first], out[second] = halves(p)
	}
	return out[:2*len(x)]
}

// pairs are n pairs of bf16 values, a few of them NaN or Inf.
func pairs(id, n int, special bool) []float32 {
	x := values(id, n)
	kernel.Go.PairRows(x, values(id+20, n), values(id+21, n), kernel.Lines{Rows: 1, Cols: n})
	if special && n > 20 {
		x[n/2], x[n/3] = float32(math.NaN()), float32(math.Inf(-1)) // first of their pairs; the second is 0
	}
	return x
}

// Tiles of pairs are the plain tiles of their values, bit for bit: the same
// additions in the same order, each product exact. Those of NEONBF16 are the definition of
// its instruction (odd_test.go).
func TestPairs(t *testing.T) {
	for _, shape := range pairShapes(t) {
		mr, nr, odd := shape.Rows, shape.Cols, isa.NEONBF16.Runs()
		for _, k := range []int{1, 3, 4, 7, 16} {
			for _, taps := range []int{1, 2, 9} {
				for rows := 1; rows <= mr; rows++ {
					for cols := 1; cols <= nr; cols += 3 + cols%5 {
						got := kernel.Tile{
							A: pairs(1, 400, cols%2 == 0), B: pairs(2, taps*k*nr, false), C: values(3, 70*mr),
							K: k, LDB: nr, Rows: rows, Cols: cols, Fresh: true,
						}
						for i := range mr {
							got.ARow, got.CRow = append(got.ARow, 100+(i*37)%128), append(got.CRow, (mr-1-i)*70)
						}
						for i := range taps {
							got.Tap = append(got.Tap, i*11-40)
						}
						want := got
						want.A, want.B, want.K, want.C = unpaired(got.A, 1, false), unpaired(got.B, nr, true), 2*k, values(3, 70*mr)
						want.ARow, want.Tap = doubled(got.ARow), doubled(got.Tap)
						if odd {
							want = got
							want.C = values(3, 70*mr)
							nnOdd(&want)
							got.B = quads(got.B, taps, k)
						} else {
							plain.NN(&want)
						}
						shape.NN(&got)
						near(t, want.C, got.C, 0, "%+v: k %d, taps %d, %dx%d", shape, k, taps, rows, cols)
					}
				}
			}
		}
	}
}

func TestPairsTransposed(t *testing.T) {
	const width = 96 // of a row of A and of B
	for _, shape := range pairShapes(t) {
		mr, nr, odd := shape.Rows, shape.Cols, isa.NEONBF16.Runs()
		for _, p := range []int{1, 2, 5, 33} {
			for segs := 1; segs <= 3; segs++ {
				for rows := 1; rows <= mr; rows++ {
					for cols := 1; cols <= nr; cols += 3 + cols%5 {
						got := kernel.TileT{
							A: pairs(1, 3*p*width, cols%2 == 0), B: pairs(2, 3*p*width, false), C: values(3, 70*mr),
							P: p, AStep: width, BStep: width, LDC: 70, Rows: rows, Cols: cols, Fresh: true,
						}
						want := got
						want.A, want.B, want.P, want.C = unpaired(got.A, width, true), unpaired(got.B, width, true), 2*p, values(3, 70*mr)
						for i := range segs {
							got.ASeg, got.BSeg = append(got.ASeg, i*p*width), append(got.BSeg, (segs-1-i)*p*width)
						}
						want.ASeg, want.BSeg = doubled(got.ASeg), doubled(got.BSeg)
						if odd {
							want = got
							want.C = values(3, 70*mr)
							want.ASeg, want.BSeg = append([]int(nil), got.ASeg...), append([]int(nil), got.BSeg...)
							tnOdd(&want)
							got.B, got.BStep = quads(panel(got.B, width, nr), 3, p), nr
							for i := range got.BSeg {
								got.BSeg[i] = (segs - 1 - i) * (p + p%2) * nr
							}
						} else {
							plain.TN(&want)
						}
						shape.TN(&got)
						near(t, want.C, got.C, 0, "%+v: p %d, segments %d, %dx%d", shape, p, segs, rows, cols)
					}
				}
			}
		}
	}
}

func doubled(x []int) []int {
	out := make([]int, len(x))
	for i, v := range x {
		out[i] = 2 * v
	}
	return out
}

func TestBestBF16Runs(t *testing.T) {
	require.LessOrEqual(t, kernel.AVX512BF16.Shape(64).Cols, kernel.MaxCols)
	require.True(t, isa.Set(kernel.BestBF16()).Runs())
}
