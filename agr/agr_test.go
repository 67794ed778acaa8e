package agr_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
)

// random returns values over several orders of magnitude with zeros among them.
func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * math.Pow(10, float64(i%5-2)))
	}
	for i := 7; i < n; i += 31 {
		x[i] = 0
	}
	return x
}

// formula is AGR of one tensor in float64, as the paper writes it.
func formula(g []float64) []float64 {
	var sum float64
	for _, v := range g {
		sum += math.Abs(v)
	}
	out := make([]float64, len(g))
	for i, v := range g {
		if sum != 0 {
			out[i] = (1 - math.Abs(v)/sum) * v
		}
	}
	return out
}

func float64s(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// checkProperties holds AGR(g), for finite g, to what the formula implies.
func checkProperties(t *testing.T, g []float32) {
	t.Helper()
	out := make([]float32, len(g))
	agr.Transform(out, g)

	var l1, lost, largest float64
	for i, v := range g {
		l1 += math.Abs(float64(v))
		largest = max(largest, math.Abs(float64(v)))
		if !(math.Abs(float64(out[i])) <= math.Abs(float64(v))) { // so zero stays zero, and no NaN
			require.Failf(t, "grew", "element %d: %v became %v", i, v, out[i])
		}
		if math.Signbit(float64(v)) != math.Signbit(float64(out[i])) {
			require.Failf(t, "changed its sign", "element %d: %v became %v", i, v, out[i])
		}
		lost += math.Abs(float64(v)) - math.Abs(float64(out[i]))
	}
	if l1 == 0 || l1 > math.MaxFloat32 || largest < 1e-30 {
		return // shares vanish, or underflow rounds: no accuracy is promised
	}
	for i, want := range formula(float64s(g)) {
		// 1 - alpha cancels: its error is that of alpha, absolute.
		if d := math.Abs(want - float64(out[i])); !(d <= 3e-7*math.Abs(float64(g[i]))+1e-44) {
			require.Failf(t, "not the formula", "element %d: want %v, got %v", i, want, out[i])
		}
	}
	// What the tensor loses is sum g^2 / sum |g|.
	var squares float64
	for _, v := range g {
		squares += float64(v) * float64(v)
	}
	require.InDelta(t, squares/l1, lost, 1e-6*l1)

	// Homogeneous: to the bit for a power of two that leaves the range alone.
	if largest < 1e30 && largest > 1e-25 {
		scaled := make([]float32, len(g))
		for i, v := range g {
			scaled[i] = 8 * v
		}
		agr.Transform(scaled, scaled) // in place, too
		for i, v := range scaled {
			if math.Abs(float64(out[i])) > 1e-30 && 8*out[i] != v {
				require.Failf(t, "not homogeneous", "element %d: want %v, got %v", i, 8*out[i], v)
			}
		}
	}
}

func TestTransformProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 2, 3, 15, 16, 17, 128, 1000, optim.BlockSize + 5} {
		for range 5 {
			checkProperties(t, random(r, n))
		}
		checkProperties(t, make([]float32, n))
	}
}

func FuzzTransform(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 128, 191})
	f.Add([]byte{1, 0, 0, 0, 255, 255, 127, 127, 0, 0, 0, 128})
	f.Fuzz(func(t *testing.T, data []byte) {
		var g []float32
		for ; len(data) >= 4; data = data[4:] {
			v := math.Float32frombits(binary.LittleEndian.Uint32(data))
			if !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) {
				g = append(g, v)
			}
		}
		checkProperties(t, g)
	})
}

func TestTransformValues(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	apply := func(g ...float32) []float32 {
		out := make([]float32, len(g))
		agr.Transform(out, g)
		return out
	}
	require.Equal(t, []float32{0.75, -0.75, 0, 1}, apply(1, -1, 0, 2))
	require.Equal(t, []float32{0}, apply(3), "one element: exactly 0")
	require.Equal(t, []float32{0, 0}, apply(0, 0))
	require.Equal(t, []float32{0, float32(math.Copysign(0, -1)), 0}, apply(0, -5, 0), "a lone element is the whole sum")
	require.Equal(t, []float32{0}, apply(math.SmallestNonzeroFloat32))
	for _, v := range apply(1, nan) {
		require.True(t, math.IsNaN(float64(v)), "NaN spreads over its tensor")
	}
	got := apply(1, inf, -2)
	require.InDelta(t, 1, got[0], 0)
	require.True(t, math.IsNaN(float64(got[1])), "infinity over infinity")
	huge := apply(math.MaxFloat32, math.MaxFloat32)
	require.Equal(t, []float32{math.MaxFloat32, math.MaxFloat32}, huge, "a norm beyond float32 leaves the gradient")
	require.Panics(t, func() { agr.Transform(make([]float32, 2), make([]float32, 3)) })
}

func TestConfigErrors(t *testing.T) {
	err := agr.Config{Scope: "layer", ScalarTensors: "drop"}.Validate()
	require.ErrorIs(t, err, agr.ErrConfig)
	require.ErrorContains(t, err, `scope is "layer", want one of tensor, group`)
	require.ErrorContains(t, err, `scalar_tensors is "drop", want one of zero, keep`)
	require.NoError(t, agr.Config{}.Validate())
	require.NoError(t, agr.Config{Scope: agr.ScopeGroup, ScalarTensors: agr.ScalarKeep}.Validate())
	require.Panics(t, func() { agr.Wrap(nil, nil, nil, agr.Config{Scope: "x"}) })
}

// recorder is an optimizer that keeps the gradient it is given.
type recorder struct{ grads []float32 }

func (r *recorder) Name() string        { return "recorder" }
func (r *recorder) Slots() []optim.Slot { return nil }
func (r *recorder) Step(_, grads []float32, _ float64, _ int64) {
	r.grads = append([]float32(nil), grads...)
}

func TestWrapTransformsEachTensorByItself(t *testing.T) {
	segments := []optim.Segment{{Name: "w", Off: 0, Len: 40}, {Name: "scalar", Off: 48, Len: 1}, {Name: "zero", Off: 64, Len: 5}, {Name: "b", Off: 80, Len: 3}}
	const n = 96
	g := random(rand.New(rand.NewPCG(4, 4)), n)
	clear(g[64:69])
	var group float64
	for _, s := range segments {
		l1, _ := optim.Norms(g[s.Off : s.Off+s.Len])
		group += l1
	}
	for name, tc := range map[string]struct {
		c       agr.Config
		element func(s optim.Segment, i int, paper float32) float64
	}{
		"paper": {agr.Config{}, func(_ optim.Segment, _ int, paper float32) float64 { return float64(paper) }},
		"keep": {agr.Config{ScalarTensors: agr.ScalarKeep}, func(s optim.Segment, i int, paper float32) float64 {
			if s.Len == 1 {
				return float64(g[i])
			}
			return float64(paper)
		}},
		"group": {agr.Config{Scope: agr.ScopeGroup}, func(_ optim.Segment, i int, _ float32) float64 {
			return (1 - math.Abs(float64(g[i]))/(group+1e-12)) * float64(g[i])
		}},
	} {
		for _, r := range []optim.Runner{nil, goroutines(3)} {
			inner := &recorder{}
			o := agr.Wrap(inner, segments, r, tc.c)
			require.Equal(t, "recorder(agr)", o.Name())
			o.Step(make([]float32, n), append([]float32(nil), g...), 1, 1)
			for _, s := range segments {
				paper := make([]float32, s.Len)
				agr.Transform(paper, g[s.Off:s.Off+s.Len])
				for i := range s.Len {
					at := s.Off + i
					require.InDelta(t, tc.element(s, at, paper[i]), float64(inner.grads[at]), 2e-7*math.Abs(float64(g[at])), "%s: %s[%d]", name, s.Name, i)
				}
			}
			require.InDelta(t, g[90], inner.grads[90], 0, "padding")
		}
	}
	inner := &recorder{}
	agr.Wrap(inner, nil, nil, agr.Config{}).Step(make([]float32, 4), []float32{1, -1, 0, 2}, 1, 1)
	require.Equal(t, []float32{0.75, -0.75, 0, 1}, inner.grads, "nil segments: one tensor")
}

func ExampleWrap() {
	c, err := optim.DefaultConfig("adamw")
	if err != nil {
		panic(err)
	}
	c.WeightDecay = 0
	params := []float32{1, 1, 1, 1}
	grads := []float32{1, -1, 0, 2}
	adamw, err := optim.New(c, nil, len(params), nil)
	if err != nil {
		panic(err)
	}
	o := agr.Wrap(adamw, nil, nil, agr.Config{})
	o.Step(params, grads, 0.25, 1)
	fmt.Printf("%s moved by %.2f along %v\n", o.Name(), params, grads)
	// Output: adamw(agr) moved by [0.75 1.25 1.00 0.75] along [0.75 -0.75 0 1]
}
