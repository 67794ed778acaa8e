//go:build !race

package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

// odd is x + y rounded to float32 as Arm's bf16 instructions do (Arm Architecture Reference
// Manual, BFAdd): to odd, what overflows to Inf, what is below 2^-126 to zero, and so are
// numbers below it that are taken. x and y are in float32 or, exactly, products of bf16.
func odd(x, y float64) float32 {
	x, y = flushed(x), flushed(y)
	sum := x + y
	if sum != sum || math.IsInf(sum, 0) {
		return float32(sum)
	}
	part := sum - x // Knuth's two-sum: sum + lost is x + y exactly
	lost := (x - (sum - part)) + (y - part)
	u := math.Float64bits(sum)
	if lost != 0 {
		if (lost < 0) != (sum < 0) {
			u-- // towards zero
		}
		u |= 1
	}
	sum = math.Float64frombits(u)
	if math.Abs(sum) >= 0x1p128 {
		return float32(math.Inf(1 - 2*int(u>>63)))
	}
	f := math.Float32bits(float32(math.Float64frombits(u &^ (1<<29 - 1))))
	if u&(1<<29-1) != 0 {
		f |= 1
	}
	return float32(flushed(float64(math.Float32frombits(f))))
}

func flushed(x float64) float64 {
	if math.Abs(x) < 0x1p-126 {
		return math.Copysign(0, x)
	}
	return x
}

// bfdot is sum + the products of two pairs: BFDOT, and half of what BFMMLA adds.
func bfdot(sum, a, b float32) float32 {
	a0, a1 := halves(a)
	b0, b1 := halves(b)
	product := func(x, y float32) float64 {
		p := flushed(float64(x)) * flushed(float64(y))
		if math.Abs(p) >= 0x1p128 {
			return math.Inf(int(math.Copysign(1, p)))
		}
		return p
	}
	return odd(float64(sum), float64(odd(product(a0, b0), product(a1, b1))))
}

// nnOdd is Tile by the definition, for Fresh tiles whose B has rows as wide as LDB.
func nnOdd(t *kernel.Tile) {
	for i := range t.Rows {
		for j := range t.Cols {
			var sum float32
			for n, tap := range t.Tap {
				for k := range t.K {
					sum = bfdot(sum, t.A[t.ARow[i]+tap+k], t.B[(n*t.K+k)*t.LDB+j])
				}
				if t.K%2 > 0 {
					sum = bfdot(sum, 0, 0)
				}
			}
			t.C[t.CRow[i]+j] = sum
		}
	}
}

func tnOdd(t *kernel.TileT) {
	for i := range t.Rows {
		for j := range t.Cols {
			var sum float32
			for n, seg := range t.ASeg {
				for p := range t.P {
					sum = bfdot(sum, t.A[seg+p*t.AStep+i], t.B[t.BSeg[n]+p*t.BStep+j])
				}
				if t.P%2 > 0 {
					sum = bfdot(sum, 0, 0)
				}
			}
			t.C[i*t.LDC+j] = sum
		}
	}
}

// panel is the first nr columns of a matrix.
func panel(x []float32, width, nr int) (out []float32) {
	for ; len(x) >= width; x = x[width:] {
		out = append(out, x[:nr]...)
	}
	return out
}

// quads are groups of k rows of 16 pairs as the tiles read them.
func quads(x []float32, groups, k int) (out []float32) {
	for i := range groups {
		out = append(out, x[i*k*16:(i+1)*k*16]...)
		if k%2 > 0 {
			out = append(out, make([]float32, 16)...)
		}
	}
	ordered := make([]float32, len(out), len(out)+kernel.Slack)
	copy(ordered, out)
	kernel.NEONBF16.Quads(ordered)
	return ordered
}

// The definition on cases by hand.
func TestOdd(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct{ x, y, want float64 }{
		{1, 0x1p-23, 1 + 0x1p-23},
		{1, 0x1p-24, 1 + 0x1p-23},
		{1, 0x1p-60, 1 + 0x1p-23},
		{1, 0x1p-120, 1 + 0x1p-23},
		{1 + 0x1p-23, 0x1p-60, 1 + 0x1p-23},
		{1 + 0x1p-23, -0x1p-60, 1 + 0x1p-23},
		{1, -0x1p-60, 1 - 0x1p-24},
		{-1, 0x1p-60, -1 + 0x1p-24},
		{1 + 0x1p-22, -0x1p-60, 1 + 0x1p-23},
		{2, 3, 5},
		{1, -1, 0},
		{0x1p127, 0x1p127, float64(inf)},
		{-0x1p127, -0x1p127, -float64(inf)},
		{math.MaxFloat32, 1, math.MaxFloat32},
		{0x1p-126, -0x1.8p-126, 0},
		{0x1p-127, 1, 1},
		{0x1p-126, 0x1p-126, 0x1p-125},
	} {
		require.Equal(t, float32(c.want), odd(c.x, c.y), "%x + %x", c.x, c.y)
		require.Equal(t, float32(c.want), odd(c.y, c.x), "%x + %x", c.y, c.x)
	}
	require.True(t, math.Signbit(float64(odd(-0x1.8p-126, 0x1p-126))))
}

// Operands of all sizes, also denormal, infinite and not numbers, against the definition.
func TestPairsOfAnySize(t *testing.T) {
	if all := pairing(); all[len(all)-1] != kernel.NEONBF16 {
		t.Skip("this processor has no FEAT_BF16")
	}
	r := rand.New(rand.NewPCG(1, 2))
	const k = 5
	at := func(spread int) uint32 {
		u := uint32(127-spread/2+r.IntN(spread))<<7 | uint32(r.IntN(128)) | uint32(r.IntN(2))<<15
		if spread == 254 && r.IntN(40) == 0 {
			u = []uint32{0, 0x8000, 0x7f80, 0xff80, 0x7fc1, 1, 0x807f, 0x7f7f}[r.IntN(8)]
		}
		return u
	}
	for turn := range 1200 {
		spread := []int{4, 16, 40, 128, 254}[turn%5]
		fill := func(n int) []float32 {
			x := make([]float32, n, n+kernel.Slack)
			for i := range x {
				x[i] = math.Float32frombits(at(spread)<<16 | at(spread))
			}
			return x
		}
		got := kernel.Tile{
			A: fill(6 * k), B: fill(k * 16), C: make([]float32, 6*16, 6*16+kernel.Slack), ARow: []int{0, k, 2 * k, 3 * k, 4 * k, 5 * k},
			CRow: []int{0, 16, 32, 48, 64, 80}, Tap: []int{0}, K: k, LDB: 16, Rows: 6, Cols: 16, Fresh: true,
		}
		want := got
		want.C = make([]float32, 6*16)
		nnOdd(&want)
		got.B = quads(got.B, 1, k)
		kernel.NEONBF16.Shape(16).NN(&got)
		for i, w := range want.C {
			same := math.Float32bits(w) == math.Float32bits(got.C[i]) || w != w && got.C[i] != got.C[i]
			require.True(t, same, "turn %d, element %d: got %x (%v), want %x (%v)", turn, i, math.Float32bits(got.C[i]), got.C[i], math.Float32bits(w), w)
		}
	}
}
