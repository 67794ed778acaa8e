//go:build !race

// These tests start no goroutine, and the plain kernels are slow under the race
// detector.

package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/portable"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// assembly lists the sets that are not plain Go.
func assembly() []kernel.Set { return kernel.Supported()[1:] }

// twin is a set of assembly beside one of plain Go that computes the same.
type twin struct{ plain, set kernel.Set }

// twins are every set beside Go, and the portable ones beside PortableGo.
func twins() (all []twin) {
	for _, set := range assembly() {
		all = append(all, twin{kernel.Go, set})
	}
	for _, set := range kernel.Portables()[1:] {
		all = append(all, twin{kernel.PortableGo, set})
	}
	return all
}

// tol is the relative error that the two may be apart: none where both are portable.
func (w twin) tol(otherwise float64) float64 {
	if w.plain == kernel.PortableGo {
		return 0
	}
	return otherwise
}

// values are n standard normal ones, with NaN for the slack behind them.
func values(id, n int) []float32 {
	v := make([]float32, n+kernel.Slack)
	rng.New(3, rng.StreamNoise).Normal(v[:n], uint64(id))
	for i := n; i < len(v); i++ {
		v[i] = float32(math.NaN())
	}
	return v[:n:len(v)]
}

// near requires two results to agree to a relative error, NaN with NaN, also in
// the slack behind them.
func near(t *testing.T, want, got []float32, tol float64, format string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want))
	want, got = want[:cap(want)], got[:cap(got)]
	require.Len(t, got, len(want))
	for i, w := range want {
		g := got[i]
		if w != w && g != g || w == g {
			continue
		}
		if !(math.Abs(float64(w)-float64(g)) <= tol*(1+math.Abs(float64(w)))) {
			require.FailNowf(t, "twins differ", format+": element %d: plain %v, assembly %v", append(args, i, w, g)...)
		}
	}
}

// tiles are the shapes of a set.
func (w twin) tiles() []kernel.Shape {
	all := []kernel.Shape{w.set.Shape(32)}
	if s := w.set.Shape(64); s != all[0] {
		all = append(all, s)
	}
	return all
}

// plain is the tile of plain Go, which takes any size.
var plain = kernel.Go.Shape(32)

func TestNN(t *testing.T) {
	for _, w := range twins() {
		for _, shape := range w.tiles() {
			mr, nr := shape.Rows, shape.Cols
			for _, k := range []int{0, 1, 3, 4, 7, 32} {
				for _, taps := range []int{1, 2, 9} {
					for rows := 1; rows <= mr; rows++ {
						for cols := 1; cols <= nr; cols += 3 + cols%5 {
							tile := func() *kernel.Tile {
								u := &kernel.Tile{
									A: values(1, 400), B: values(2, taps*k*nr), C: values(3, 70*mr),
									K: k, LDB: nr, Rows: rows, Cols: cols, Fresh: (k+rows)%2 == 0,
								}
								if cols%3 > 0 {
									u.Init = values(4, 200)
								}
								if cols%3 > 1 {
									u.Residual = values(5, 70*mr)
								}
								for i := range mr {
									u.ARow, u.CRow = append(u.ARow, 100+(i*37)%128), append(u.CRow, (mr-1-i)*70)
									u.IRow = append(u.IRow, i/2*64)
								}
								for i := range taps {
									u.Tap = append(u.Tap, i*11-40)
								}
								return u
							}
							want, got := tile(), tile()
							w.plain.Shape(32).NN(want)
							shape.NN(got)
							near(t, want.C, got.C, w.tol(1e-5), "%+v: k %d, taps %d, %dx%d", shape, k, taps, rows, cols)
							if k > 0 {
								require.NotEqual(t, values(3, 70*mr), got.C)
							}
						}
					}
				}
			}
		}
	}
}

func TestTN(t *testing.T) {
	for _, w := range twins() {
		for _, shape := range w.tiles() {
			mr, nr := shape.Rows, shape.Cols
			for _, p := range []int{1, 2, 5, 33} {
				for segs := 1; segs <= 3; segs++ {
					for rows := 1; rows <= mr; rows++ {
						for cols := 1; cols <= nr; cols += 3 + cols%5 {
							tile := func() *kernel.TileT {
								u := &kernel.TileT{
									A: values(1, 3*p*40), B: values(2, 3*p*67), C: values(3, 70*mr),
									P: p, AStep: 37, BStep: 65, LDC: 70, Rows: rows, Cols: cols, Fresh: cols%2 == 0,
								}
								for i := range segs {
									u.ASeg, u.BSeg = append(u.ASeg, i*p*38), append(u.BSeg, (segs-1-i)*p*66)
								}
								return u
							}
							want, got := tile(), tile()
							w.plain.Shape(32).TN(want)
							shape.TN(got)
							near(t, want.C, got.C, w.tol(1e-5), "%+v: p %d, segments %d, %dx%d", shape, p, segs, rows, cols)
						}
					}
				}
			}
		}
	}
}

// sizes pass every vector width and its tails.
var sizes = []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1023}

func TestElementwise(t *testing.T) {
	kernels := map[string]func(s kernel.Set, dst, x, y []float32){
		"Add":         func(s kernel.Set, dst, x, y []float32) { s.Add(dst, x, y) },
		"Scale":       func(s kernel.Set, dst, x, _ []float32) { s.Scale(dst, x, 0.7) },
		"Blend":       func(s kernel.Set, dst, x, y []float32) { s.Blend(dst, x, y, 0.7, -1.3) },
		"SiLU":        func(s kernel.Set, dst, x, _ []float32) { s.SiLU(dst, x) },
		"SiLUGrad":    func(s kernel.Set, dst, x, y []float32) { s.SiLUGrad(dst, x, y) },
		"SoftmaxGrad": func(s kernel.Set, dst, x, y []float32) { s.SoftmaxGrad(dst, x, y, 0.7, -1.3) },
		"ExpSum": func(s kernel.Set, dst, x, _ []float32) {
			sum := s.ExpSum(dst, x, 3, 1)
			var want float64
			for _, v := range dst {
				want += float64(v)
			}
			if len(x) > 0 && want == want {
				dst[0] = float32(float64(sum) / want)
			}
		},
		"Dropout": func(s kernel.Set, dst, x, _ []float32) {
			m := someMask()
			s.Dropout(dst, x, &m)
		},
	}
	for _, w := range twins() {
		set := w.set
		for name, f := range kernels {
			for _, n := range sizes {
				want, got := values(1, n), values(1, n)
				f(w.plain, want, values(2, n), values(3, n))
				f(set, got, values(2, n), values(3, n))
				near(t, want, got, w.tol(1e-6), "%v: %s, %d elements", set, name, n)
				for i, v := range []float32{float32(math.NaN()), 1e4, -1e4, 88.6, -88.6, float32(math.Inf(1)), 0} {
					x, y, at := values(2, n), values(3, n), (i*13+n-1)%max(1, n)
					if n > 0 {
						x[at] = v
					}
					f(w.plain, want, x, y)
					f(set, got, x, y)
					near(t, want, got, w.tol(1e-6), "%v: %s, %d elements, %v", set, name, n, v)
				}
			}
		}
	}
}

// someMask passes from the last block number to the first.
func someMask() kernel.Mask {
	m := kernel.Mask{Block: 1<<32 - 3, Stream: 7, Draw: [2]uint32{8, 9}, Limit: 1 << 30, Keep: 4. / 3}
	m.SetKey(1 | 2<<32)
	return m
}

// The bits of a mask are those of package rng, row by row.
func TestMaskBits(t *testing.T) {
	m := someMask()
	src := rng.New(1|2<<32, 7)
	for _, set := range kernel.Supported() {
		for _, rows := range []int{1, 2, 5} {
			for words := 1; words <= 3; words++ {
				const skip = 5
				bits := make([]uint64, rows*words)
				set.MaskBits(bits, words, rows, skip, &m)
				for i := range 64 * words * rows {
					r, j := i/(64*words), i%(64*words)
					block := m.Block + uint32(r*(16*words+skip)+j/4)
					want := src.Block(8|9<<32, block)[j%4] >= m.Limit
					require.Equal(t, want, bits[i/64]>>(i%64)&1 == 1, "%v: %d rows of %d words, element %d", set, rows, words, i)
				}
			}
		}
	}
}

func TestReductions(t *testing.T) {
	for _, w := range twins() {
		set := w.set
		for _, n := range sizes {
			x, y := values(1, n), values(2, n)
			require.InDelta(t, w.plain.Dot(x, y), set.Dot(x, y), w.tol(1e-4), "%v: Dot of %d", set, n)
			for i := range x {
				x[i] -= 10 // no zero of a masked lane may win
			}
			for _, scale := range []float32{0.5, -0.5} {
				require.InDelta(t, w.plain.MaxScaled(x, scale), set.MaxScaled(x, scale), 0, "%v: MaxScaled of %d", set, n)
			}
		}
	}
}

func TestGrids(t *testing.T) {
	kernels := map[string]func(s kernel.Set, g *kernel.Grid){
		"ColSums":           func(s kernel.Set, g *kernel.Grid) { s.ColSums(g) },
		"ColMoments":        func(s kernel.Set, g *kernel.Grid) { s.ColMoments(g) },
		"ColGrads":          func(s kernel.Set, g *kernel.Grid) { s.ColGrads(g) },
		"ColAffine":         func(s kernel.Set, g *kernel.Grid) { s.ColAffine(g) },
		"ColAffineSiLU":     func(s kernel.Set, g *kernel.Grid) { s.ColAffineSiLU(g) },
		"ColAffineSiLUGrad": func(s kernel.Set, g *kernel.Grid) { s.ColAffineSiLUGrad(g) },
		"ColNormGrad":       func(s kernel.Set, g *kernel.Grid) { s.ColNormGrad(g) },

		"ColAffineSiLUDrop":     func(s kernel.Set, g *kernel.Grid) { s.ColAffineSiLUDrop(g) },
		"ColAffineSiLUGradDrop": func(s kernel.Set, g *kernel.Grid) { s.ColAffineSiLUGradDrop(g) },
	}
	bits := make([]uint64, 64)
	m := someMask()
	kernel.Go.MaskBits(bits, len(bits), 1, 0, &m)
	for _, w := range twins() {
		set := w.set
		for name, f := range kernels {
			for _, rows := range []int{1, 2, 9} {
				for _, cols := range []int{1, 3, 8, 16, 17, 31, 40, 64, 112, 160, 192} {
					if strings.HasSuffix(name, "Drop") && cols%16 > 0 {
						continue
					}
					ld := cols + 5
					grid := func() *kernel.Grid {
						return &kernel.Grid{
							X: values(1, rows*ld), Y: values(2, rows*ld), Dst: values(3, rows*ld),
							A: values(4, cols), B: values(5, cols), C: values(6, cols), D: values(7, cols),
							Sum: [2][]float32{values(8, cols), values(9, cols)}, Rows: rows, Cols: cols, LD: ld,
							Bits: bits, Keep: 1.25,
						}
					}
					want, got := grid(), grid()
					f(w.plain, want)
					f(set, got)
					what := fmt.Sprintf("%v: %s of %dx%d", set, name, rows, cols)
					near(t, want.Dst, got.Dst, w.tol(2e-6), "%s", what)
					near(t, want.Sum[0], got.Sum[0], w.tol(1e-5), "%s", what)
					near(t, want.Sum[1], got.Sum[1], w.tol(1e-5), "%s", what)
				}
			}
		}
	}
}

// The plain exponential, through ExpSum, against float64 over its whole range.
func TestExp(t *testing.T) {
	for _, set := range append(kernel.Supported(), kernel.PortableGo) {
		x, y := make([]float32, 174_500), make([]float32, 174_500)
		for i := range x {
			x[i] = float32(i)/1000 - 86.5
		}
		set.ExpSum(y, x, 1, 0)
		for i, v := range x {
			want := math.Exp(float64(v))
			if !(math.Abs(float64(y[i])-want) <= 3e-7*want) {
				require.FailNow(t, "exp is off", "%v: exp(%v) = %v, want %v", set, v, y[i], want)
			}
		}
	}
}

// SiLU against float64: 2 units in the last place where the result is normal.
func TestSiLUIsAccurate(t *testing.T) {
	for _, set := range append(kernel.Supported(), kernel.PortableGo) {
		x, y := make([]float32, 160_000), make([]float32, 160_000)
		for i := range x {
			x[i] = float32(i)/1000 - 80
		}
		set.SiLU(y, x)
		for i, v := range x {
			want := float64(v) / (1 + math.Exp(-float64(v)))
			ulp := float64(math.Nextafter32(float32(math.Abs(want)), math.MaxFloat32)) - math.Abs(float64(float32(want)))
			require.LessOrEqual(t, math.Abs(float64(y[i])-want), 2*ulp, "%v: silu(%v) = %v, want %v", set, v, y[i], want)
		}
	}
}

func TestTranspose(t *testing.T) {
	for _, set := range kernel.Supported() {
		for _, d := range [][2]int{{1, 1}, {3, 5}, {8, 8}, {16, 16}, {17, 40}, {33, 8}, {24, 37}, {9, 3}} {
			rows, cols := d[0], d[1]
			src, dst := values(1, rows*(cols+2)), values(2, cols*(rows+3))
			before := values(2, cols*(rows+3))
			set.Transpose(dst, rows+3, src, cols+2, rows, cols)
			for c := range cols {
				for r := range rows + 3 {
					want := before[c*(rows+3)+r]
					if r < rows {
						want = src[r*(cols+2)+c]
					}
					require.Equal(t, want, dst[c*(rows+3)+r], "%v: %v, column %d, row %d", set, d, c, r)
				}
			}
		}
	}
}

func TestShapesFitTheTiles(t *testing.T) {
	for _, set := range kernel.Supported() {
		require.LessOrEqual(t, set.Shape(1).Rows, kernel.MaxRows)
	}
}

// What the processor computes as one multiply-add is what package portable computes.
func TestFMA(t *testing.T) {
	for _, set := range kernel.Portables()[1:] {
		r := rand.New(rand.NewPCG(5, 6))
		x, y, z, dst := values(1, 1), values(2, 1), values(3, 1), values(4, 1)
		for range 300_000 {
			e := r.IntN(120) - 90
			near := float32(r.IntN(9)) / (1 << 23)
			x[0] = float32(math.Ldexp(float64(1+near), e/2))
			y[0] = float32(math.Ldexp(float64(1-near), e-e/2))
			z[0] = float32(math.Ldexp(float64(r.IntN(1<<25)-1<<24), e+r.IntN(3)))
			set.Blend(dst, y, z, x[0], 1)
			require.Equal(t, dst[0], portable.FMA(x[0], y[0], z[0]), "%v: %v %v + %v", set, x[0], y[0], z[0])
		}
	}
}
