package portable_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/cpu"

	"github.com/agrdist/agrdist/internal/portable"
)

// The functions over the arguments that training takes them at.
var functions = map[string]struct {
	of, std func(x float64) float64
	from    func(r *rand.Rand) float64
	bits    string // digest of the results, on every architecture
}{
	"log": {portable.Log, math.Log, func(r *rand.Rand) float64 { return (float64(r.Uint32()) + 0.5) / (1 << 32) }, "dc6022230f749798"},
	"log of anything": {portable.Log, math.Log, func(r *rand.Rand) float64 {
		return math.Ldexp(0.5+r.Float64()/2, r.IntN(2000)-1000)
	}, "f141fefb66b4de13"},
	"sin": {
		func(x float64) float64 { s, _ := portable.Sincos(x); return s }, func(x float64) float64 { s, _ := math.Sincos(x); return s },
		func(r *rand.Rand) float64 { return (r.Float64() - 0.5) * 2000 }, "5a76ab9690c093de",
	},
	"cos": {portable.Cos, math.Cos, func(r *rand.Rand) float64 { return 2 * math.Pi * r.Float64() }, "5626979f29f20745"},
	"exp": {portable.Exp, math.Exp, func(r *rand.Rand) float64 { return (r.Float64() - 0.5) * 1400 }, "5bdd64c192d59cb6"},
	"pow": {
		func(x float64) float64 { return portable.Pow(10000, x) }, func(x float64) float64 { return math.Pow(10000, x) },
		func(r *rand.Rand) float64 { return (r.Float64() - 0.5) * 20 }, "27e3ed88b899aa75",
	},
	"pow of a ratio": {
		func(x float64) float64 { return portable.Pow(1+x, -5.5) }, func(x float64) float64 { return math.Pow(1+x, -5.5) },
		func(r *rand.Rand) float64 { return math.Ldexp(r.Float64(), r.IntN(28)-14) }, "dff26b21b6174d3d",
	},
}

// The bits are those of package math on amd64 with FMA, and on every architecture those
// whose digest stands here.
func TestFunctions(t *testing.T) {
	const n = 50_000
	for name, f := range functions {
		r := rand.New(rand.NewPCG(1, 2))
		h := sha256.New()
		for range n {
			x := f.from(r)
			got, want := f.of(x), f.std(x)
			same := math.Abs(got-want) <= 1e-14*math.Abs(want)+1e-300
			if runtime.GOARCH == "amd64" && cpu.X86.HasFMA {
				same = got == want
			}
			if !same {
				require.Fail(t, "not package math's", "%s(%v) = %v, package math has %v", name, x, got, want)
			}
			_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(got))) // writes to memory
		}
		assert.Equal(t, f.bits, hex.EncodeToString(h.Sum(nil)[:8]), name)
	}
}

func TestEnds(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range [][2]float64{
		{portable.Log(0), -inf},
		{portable.Log(inf), inf},
		{portable.Log(-1), nan},
		{portable.Log(nan), nan},
		{portable.Log(1), 0},
		{portable.Exp(inf), inf},
		{portable.Exp(-inf), 0},
		{portable.Exp(nan), nan},
		{portable.Exp(0), 1},
		{portable.Exp(-745), 5e-324},
		{portable.Pow(3, 0), 1},
		{portable.Pow(3, 1), 3},
		{portable.Pow(9, 0.5), 3},
		{portable.Pow(4, -0.5), 0.5},
		{portable.Pow(2, -3), 0.125},
		{portable.Pow(1e300, 2), inf},
		{portable.Pow(1e300, -2), 0},
		{portable.Pow(2, 1<<20), inf},
		{portable.Pow(-1, 2), nan},
		{portable.Cos(0), 1},
		{portable.Cos(1 << 29), nan},
		{portable.Cos(-inf), nan},
	} {
		require.True(t, c[0] == c[1] || c[0] != c[0] && c[1] != c[1], "%v, want %v", c[0], c[1])
	}
	s, _ := portable.Sincos(math.Copysign(0, -1))
	require.True(t, math.Signbit(s))
}

// exact is x y + z in exact arithmetic, rounded once.
func exact(x, y, z float32) float32 {
	const enough = 600 // bits between the lowest of a product and the highest
	a := new(big.Float).SetPrec(enough).SetFloat64(float64(x))
	a.Mul(a, new(big.Float).SetPrec(enough).SetFloat64(float64(y)))
	v, _ := a.Add(a, new(big.Float).SetPrec(enough).SetFloat64(float64(z))).Float32()
	return v
}

// Random operands, and such whose sum lies at, or next to, a place half-way between two
// float32, normal or not, where two roundings differ from one.
func TestFMAIsRoundedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	scaled := func(v float32, e int) float32 { return float32(math.Ldexp(float64(v), e)) }
	twice := 0
	for i := range 600_000 {
		var x, y, z float32
		switch e := r.IntN(200) - 130; i % 3 {
		case 0:
			x, y, z = math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32())
			if x-x != 0 || y-y != 0 || z-z != 0 {
				continue
			}
		case 1: // a float32 and half a unit of its last place, but for 2^-46 of that
			near := float32(1+r.IntN(9)) / (1 << 23)
			x, y, z = scaled(1+near, e/2), scaled(1-near, e-e/2-1), scaled(float32(1<<23+r.IntN(1<<23)), e)
		case 2: // the same below 2^-126
			near := float32(1+r.IntN(9)) / (1 << 23)
			x, y, z = scaled(1+near, -75), scaled(1-near, -75), scaled(float32(r.IntN(1<<23)), -149)
		}
		if r.IntN(2) == 0 {
			x = -x
		}
		if r.IntN(2) == 0 {
			z = -z
		}
		want := exact(x, y, z)
		got := portable.FMA(x, y, z)
		if want != float32(float64(x)*float64(y)+float64(z)) {
			twice++
		}
		if want != got {
			require.Fail(t, "rounded twice", "%x %x + %x is %x, want %x", math.Float32bits(x), math.Float32bits(y), math.Float32bits(z), math.Float32bits(got), math.Float32bits(want))
		}
	}
	require.Greater(t, twice, 100_000, "operands for which it matters")
}

func TestFMAOfWhatIsNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	require.Equal(t, inf, portable.FMA(inf, 1, 2))
	require.Equal(t, inf, portable.FMA(math.MaxFloat32, 2, 0))
	for _, v := range []float32{portable.FMA(inf, 0, 1), portable.FMA(nan, 1, 1), portable.FMA(1, 1, nan), portable.FMA(inf, 1, -inf)} {
		require.True(t, math.IsNaN(float64(v)))
	}
}
