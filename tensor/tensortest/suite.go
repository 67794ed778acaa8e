package tensortest

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/tensor"
)

// Options adapt the suite to a backend.
type Options struct {
	// New makes the backend; the suite closes it.
	New func(tb testing.TB) tensor.Backend
	// Tolerance multiplies the errors allowed to F32 arithmetic, for a backend
	// that multiplies in fewer bits. 0 means 1.
	Tolerance float64
	// Operands is the precision of the operands of Conv2D, its gradients and
	// MatMul: for BF16 the references round them too, to nearest even, and the
	// errors allowed stay those of F32 sums.
	Operands tensor.DType
	// NormalULP is how many units in the last place a Gaussian value may differ
	// from package rng's: 0 on the host, 1 where log, sin and cos are another
	// library's.
	NormalULP int
}

// Run checks a backend against the contract with the tolerances of F32.
func Run(t *testing.T, newBackend func(testing.TB) tensor.Backend) {
	t.Helper()
	RunOptions(t, Options{New: newBackend})
}

// RunOptions checks a backend against the contract: every case against its
// float64 reference, in every aliasing that the contract allows, twice with the
// same bits; then memory, misuse and the optional interfaces.
func RunOptions(t *testing.T, o Options) {
	t.Helper()
	if o.Tolerance == 0 {
		o.Tolerance = 1
	}
	be := open(t, o.New)
	t.Run("memory", func(t *testing.T) { testMemory(t, be) })
	t.Run("misuse", func(t *testing.T) { testMisuse(t, be) })
	t.Run("replay", func(t *testing.T) { testReplay(t, be) })
	for _, c := range present(t, be) {
		t.Run(c.name, func(t *testing.T) {
			want := c.expected(o.Operands)
			for _, v := range c.variants() {
				p := c.prepare(t, be, v)
				got := p.run(t)
				for i := range want {
					o.compare(t, &c, v, i, want[i], got[i])
				}
				again := p.run(t)
				for i := range got {
					requireBits(t, got[i], again[i], "%v: output %d differs between two calls", v, i)
				}
			}
		})
	}
}

// RunSame requires the same bits of two backends in every case: of one backend
// with other numbers of threads, say.
func RunSame(t *testing.T, newA, newB func(testing.TB) tensor.Backend) {
	t.Helper()
	a, b := open(t, newA), open(t, newB)
	for _, c := range present(t, a, b) {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range c.variants() {
				x, y := c.prepare(t, a, v).run(t), c.prepare(t, b, v).run(t)
				for i := range x {
					requireBits(t, x[i], y[i], "%v: output %d", v, i)
				}
			}
		})
	}
}

// RunAllocs requires that no operation allocates Go memory once it has run
// with the same shapes before.
func RunAllocs(t *testing.T, newBackend func(testing.TB) tensor.Backend) {
	t.Helper()
	be := open(t, newBackend)
	for _, c := range present(t, be) {
		t.Run(c.name, func(t *testing.T) {
			p := c.prepare(t, be, variant{-1, -1})
			p.run(t)
			require.Zero(t, testing.AllocsPerRun(3, func() { c.run(be, p.in, p.out) }))
		})
	}
}

// present returns the cases of the operations that all backends have; optional
// ones that are missing are logged.
func present(t *testing.T, backends ...tensor.Backend) []testCase {
	t.Helper()
	var have []testCase
	missing := 0
	for _, c := range cases() {
		lacks := func(be tensor.Backend) bool { return c.missing != nil && c.missing(be) }
		if slices.ContainsFunc(backends, lacks) {
			missing++
			continue
		}
		have = append(have, c)
	}
	if missing > 0 {
		t.Logf("%d cases of optional operations that %s does not have were left out", missing, backends[0].Name())
	}
	return have
}

func open(t *testing.T, newBackend func(testing.TB) tensor.Backend) tensor.Backend {
	t.Helper()
	be := newBackend(t)
	t.Cleanup(func() {
		require.NoError(t, be.Close())
		require.NoError(t, be.Close(), "Close is idempotent")
	})
	require.NotEmpty(t, be.Name())
	return be
}

// negligible is an error that no relative tolerance is asked below.
const negligible = 1e-30

// compare checks output i against the reference.
func (o Options) compare(t *testing.T, c *testCase, v variant, i int, want []float64, got []float32) {
	t.Helper()
	require.Len(t, got, len(want), "output %d", i)
	var largest float64
	for _, w := range want {
		if !math.IsNaN(w) && !math.IsInf(w, 0) {
			largest = max(largest, math.Abs(w))
		}
	}
	for j, w := range want {
		g, allowed := got[j], c.tol*o.Tolerance*largest
		if c.relative {
			allowed = c.tol*o.Tolerance*math.Abs(w) + negligible
		}
		switch {
		case math.IsNaN(w):
			if g == g {
				require.FailNow(t, "no NaN", "%v: output %d, element %d: got %v", v, i, j, g)
			}
		case c.normal && ulps(float32(w), g) <= o.NormalULP, float32(w) == g:
		case c.tol == 0 || math.IsInf(w, 0) || !(math.Abs(float64(g)-w) <= allowed):
			require.FailNow(t, "wrong value", "%v: output %d, element %d of %d: got %v, want %v, allowed error %.3g",
				v, i, j, len(want), g, w, allowed)
		}
	}
}

// ulps is the distance between two finite values in units in the last place.
func ulps(a, b float32) int {
	if a != a || b != b {
		return math.MaxInt
	}
	d := ordinal(a) - ordinal(b)
	return max(d, -d)
}

// ordinal numbers the floats in order.
func ordinal(v float32) int {
	u := math.Float32bits(v)
	if u>>31 == 1 {
		return -int(u & 0x7fff_ffff)
	}
	return int(u)
}

// requireBits requires the same bits, NaN payloads aside.
func requireBits(tb testing.TB, want, got []float32, format string, args ...any) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for j, w := range want {
		g := got[j]
		if math.Float32bits(w) != math.Float32bits(g) && (w == w || g == g) {
			require.FailNowf(tb, "bits differ", format+": element %d: %v (%#08x) and %v (%#08x)",
				append(args, j, w, math.Float32bits(w), g, math.Float32bits(g))...)
		}
	}
}

// cases is the whole list, made once: nobody writes to it.
var cases = sync.OnceValue(func() []testCase {
	var all []testCase
	for _, list := range [][]testCase{
		elementwiseCases(), reduceCases(), randomCases(), matMulCases(),
		convCases(), normCases(), scaleShiftCases(), softmaxCases(), resampleCases(), fusedCases(),
	} {
		all = append(all, list...)
	}
	for i := range all {
		c := all[i]
		all[i].reference = sync.OnceValue(func() [][]float64 { return c.want(c.float64s()) })
	}
	return all
})
