package optim_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/optim"
)

// tolerance of float32 arithmetic over a dozen steps against float64, relative
// to the way that the value has come since 0: what is left of a signed sum
// carries the rounding of all that went into it.
const tolerance = 1e-6

// trails follows values, by name, and holds them to their references.
type trails map[string]trail

type trail struct{ at, length float64 }

func (all trails) requireClose(t *testing.T, name string, want float64, got float32) {
	t.Helper()
	path := all[name]
	path = trail{want, path.length + math.Abs(want-path.at)}
	all[name] = path
	// In the negative, so that NaN fails too.
	if !(math.Abs(want-float64(got)) <= tolerance*path.length) {
		require.Failf(t, "too far from the reference", "%s: want %v, got %v after a way of %v", name, want, got, path.length)
	}
}

// goroutines is a Runner that starts f in descending order, each on its own
// goroutine, at most n at a time.
type goroutines int

func (g goroutines) Threads() int { return int(g) }

func (g goroutines) Run(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, int(g))
	for i := n - 1; i >= 0; i-- {
		slots <- struct{}{}
		wg.Go(func() { f(i); <-slots })
	}
	wg.Wait()
}

// variants is every optimizer at its defaults and in its options.
func variants(t *testing.T) map[string]optim.Config {
	t.Helper()
	all := map[string]optim.Config{}
	add := func(label, name string, change func(c *optim.Config)) {
		c, err := optim.DefaultConfig(name)
		require.NoError(t, err)
		if change != nil {
			change(&c)
		}
		require.NoError(t, c.Validate())
		all[label] = c
	}
	for _, name := range optim.Names() {
		add(name, name, nil)
		add(name+" decay", name, func(c *optim.Config) { c.WeightDecay = 0.3 })
	}
	add("adan no_prox", "adan", func(c *optim.Config) { c.WeightDecay, c.NoProx = 0.3, true })
	add("rmsprop centered", "rmsprop", func(c *optim.Config) { c.Centered = true })
	add("rmsprop momentum", "rmsprop", func(c *optim.Config) { c.Momentum = 0.9 })
	add("rmsprop centered momentum", "rmsprop", func(c *optim.Config) { c.Momentum, c.Centered = 0.5, true })
	add("acprop plain", "acprop", func(c *optim.Config) { c.Rectify = false })
	add("acprop low beta2", "acprop", func(c *optim.Config) { c.Beta2 = 0.9 })
	add("sgdm none", "sgdm", func(c *optim.Config) { c.Momentum = 0 })
	add("sgdm nesterov", "sgdm", func(c *optim.Config) { c.Nesterov = true })
	add("sgdm dampening", "sgdm", func(c *optim.Config) { c.Dampening = 0.4 })
	return all
}

// random returns values over several orders of magnitude, with zeros among
// them.
func random(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale * math.Pow(10, float64(i%5-2)))
	}
	for i := 7; i < n; i += 31 {
		x[i] = 0
	}
	return x
}

func TestStepMatchesFormulas(t *testing.T) {
	const n, steps = 53, 15
	for label, c := range variants(t) {
		t.Run(label, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			w := random(r, n, 1)
			o, err := optim.New(c, nil, n, nil)
			require.NoError(t, err)
			refs := make([]*reference, n)
			for i := range refs {
				refs[i] = newReference(c, float64(w[i]))
			}
			seen := trails{}
			for step := 1; step <= steps; step++ {
				g := random(r, n, 1)
				kept := append([]float32(nil), g...)
				h := 0.01 * float64(min(step, 4)) / 4
				o.Step(w, g, h, int64(step))
				require.Equal(t, kept, g, "the optimizer leaves the gradient alone")
				for i, ref := range refs {
					ref.step(ref, float64(g[i]), h, step)
					seen.requireClose(t, fmt.Sprint("parameter ", i), ref.w, w[i])
				}
				for _, slot := range o.Slots() {
					for i, ref := range refs {
						require.Contains(t, ref.state, slot.Name)
						seen.requireClose(t, fmt.Sprint(slot.Name, i), ref.state[slot.Name], slot.Float32s()[i])
					}
				}
			}
		})
	}
}

func TestAdanOwnClipping(t *testing.T) {
	const n, limit = 50, 0.5
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	c.MaxGradNorm = limit
	clipping, err := optim.New(c, nil, n, nil)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(3, 4))
	refs := make([]*reference, n)
	w := random(r, n, 1)
	for i := range refs {
		refs[i] = newReference(c, float64(w[i]))
	}
	seen := trails{}
	for step := 1; step <= 12; step++ {
		g := random(r, n, 1)
		if step%3 == 0 {
			g = random(r, n, 1e-6) // below the limit: nothing is clipped
		}
		var norm float64
		for _, v := range g {
			norm += float64(v) * float64(v)
		}
		scale := math.Min(1, limit/(math.Sqrt(norm)+c.Eps))
		clipping.Step(w, g, 0.01, int64(step))
		for i, ref := range refs {
			ref.step(ref, scale*float64(g[i]), 0.01, step)
			seen.requireClose(t, fmt.Sprint("parameter ", i), ref.w, w[i])
			seen.requireClose(t, fmt.Sprint("exp_avg", i), ref.state["exp_avg"], clipping.Slots()[0].Float32s()[i])
		}
	}
}

// golden is testdata/torch_golden.json; make_golden.py there says what is in it.
type golden struct {
	Params []float32
	Grads  [][]float32
	LR     []float64
	Cases  []struct {
		Name   string
		Config json.RawMessage
		After  [][]float64
		State  map[string][][]float64
	}
}

func TestStepMatchesPyTorch(t *testing.T) {
	raw, err := os.ReadFile("testdata/torch_golden.json")
	require.NoError(t, err)
	var g golden
	require.NoError(t, json.Unmarshal(raw, &g))
	require.Len(t, g.Cases, 11)
	for _, c := range g.Cases {
		t.Run(c.Name, func(t *testing.T) {
			var named optim.Config
			require.NoError(t, json.Unmarshal(c.Config, &named))
			config, err := optim.DefaultConfig(named.Name)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(c.Config, &config))
			w := append([]float32(nil), g.Params...)
			o, err := optim.New(config, nil, len(w), nil)
			require.NoError(t, err)
			require.Len(t, o.Slots(), len(c.State))
			seen := trails{}
			for i, grads := range g.Grads {
				o.Step(w, append([]float32(nil), grads...), g.LR[i], int64(i+1))
				for j, want := range c.After[i] {
					seen.requireClose(t, fmt.Sprint("parameter ", j), want, w[j])
				}
				for _, slot := range o.Slots() {
					require.Contains(t, c.State, slot.Name)
					for j, want := range c.State[slot.Name][i] {
						seen.requireClose(t, fmt.Sprint(slot.Name, j), want, slot.Float32s()[j])
					}
				}
			}
		})
	}
}

// layout is two tensors that span several blocks, small ones, and padding.
func layout() ([]optim.Segment, int) {
	return []optim.Segment{
		{Name: "conv", Off: 0, Len: optim.BlockSize + 321},
		{Name: "bias", Off: optim.BlockSize + 336, Len: 3},
		{Name: "scalar", Off: optim.BlockSize + 352, Len: 1},
		{Name: "empty", Off: optim.BlockSize + 368, Len: 0},
		{Name: "linear", Off: optim.BlockSize + 368, Len: 1000},
	}, optim.BlockSize + 1376
}

func bits(x []float32) []uint32 {
	b := make([]uint32, len(x))
	for i, v := range x {
		b[i] = math.Float32bits(v)
	}
	return b
}

// run steps o, laid out by layout, for updates from..to with gradients that
// depend on the update alone.
func run(o optim.Optimizer, w []float32, from, to int64) {
	for t := from; t <= to; t++ {
		o.Step(w, gradients()[t], 0.01, t)
	}
}

// gradients are those of updates 0 to 5, made once.
var gradients = sync.OnceValue(func() [][]float32 {
	_, n := layout()
	all := make([][]float32, 6)
	for t := range all {
		all[t] = random(rand.New(rand.NewPCG(uint64(t), 9)), n, 1)
	}
	return all
})

func TestThreadsDoNotMatter(t *testing.T) {
	segments, n := layout()
	for label, c := range variants(t) {
		if c.Name == "adan" {
			c.MaxGradNorm = 1
		}
		var want []uint32
		for _, r := range []optim.Runner{nil, goroutines(2), goroutines(3)} {
			o, err := optim.New(c, segments, n, r)
			require.NoError(t, err)
			w := append([]float32(nil), gradients()[0]...)
			run(o, w, 1, 3)
			if want == nil {
				want = bits(w)
			}
			require.True(t, slices.Equal(want, bits(w)), "%s on %v", label, r)
		}
	}
}

func TestPaddingIsLeftAlone(t *testing.T) {
	segments, n := layout()
	covered := make([]bool, n)
	for _, s := range segments {
		for i := range s.Len {
			covered[s.Off+i] = true
		}
	}
	for label, c := range variants(t) {
		o, err := optim.New(c, segments, n, nil)
		require.NoError(t, err)
		w := make([]float32, n)
		run(o, w, 1, 2)
		moved := 0
		for i, in := range covered {
			switch {
			case !in && w[i] != 0:
				require.Failf(t, "padding written", "%s: element %d", label, i)
			case w[i] != 0:
				moved++
			}
		}
		require.Greater(t, moved, n/2, label)
	}
}

func TestResumeEqualsUninterrupted(t *testing.T) {
	segments, n := layout()
	for label, c := range variants(t) {
		straight, err := optim.New(c, segments, n, nil)
		require.NoError(t, err)
		want := append([]float32(nil), gradients()[0]...)
		got := append([]float32(nil), want...)
		run(straight, want, 1, 5)

		first, err := optim.New(c, segments, n, nil)
		require.NoError(t, err)
		run(first, got, 1, 2)
		second, err := optim.New(c, segments, n, nil)
		require.NoError(t, err)
		saved := first.Slots()
		require.Len(t, second.Slots(), len(saved))
		for i, slot := range second.Slots() {
			require.Equal(t, saved[i].Name, slot.Name)
			copy(slot.Float32s(), saved[i].Float32s())
		}
		run(second, got, 3, 5)
		require.True(t, slices.Equal(bits(want), bits(got)), label)
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	for label, c := range variants(t) {
		o, err := optim.New(c, nil, 100, nil)
		require.NoError(t, err)
		w, g := make([]float32, 100), make([]float32, 100)
		step := int64(0)
		require.Zero(t, testing.AllocsPerRun(5, func() { step++; o.Step(w, g, 0.1, step) }), label)
	}
}

func TestStepPanicsOnWrongLength(t *testing.T) {
	c, err := optim.DefaultConfig("lion")
	require.NoError(t, err)
	o, err := optim.New(c, nil, 8, nil)
	require.NoError(t, err)
	require.PanicsWithValue(t, "optim: 7 gradients, want 8", func() { o.Step(make([]float32, 8), make([]float32, 7), 1, 1) })
	require.PanicsWithValue(t, "optim: 9 parameters, want 8", func() { o.Step(make([]float32, 9), make([]float32, 8), 1, 1) })
}

// A constant gradient has variance zero; rounding makes it negative now and
// then, which must not become NaN.
func TestCenteredRMSpropSurvivesConstantGradient(t *testing.T) {
	c, err := optim.DefaultConfig("rmsprop")
	require.NoError(t, err)
	c.Centered, c.Alpha = true, 0.5
	const n = 64
	o, err := optim.New(c, nil, n, nil)
	require.NoError(t, err)
	w, g := make([]float32, n), make([]float32, n)
	for i := range g {
		g[i] = 0.1 + float32(i)/100
	}
	for step := int64(1); step <= 200; step++ {
		o.Step(w, g, 1e-9, step)
	}
	for i, v := range w {
		require.False(t, math.IsNaN(float64(v)), i)
	}
}

func TestBlocksCoverEverySegmentOnce(t *testing.T) {
	segments, n := layout()
	seen := make([]int, n)
	for _, b := range optim.Blocks(segments) {
		s := segments[b.Segment]
		require.Zero(t, (b.Lo-s.Off)%optim.BlockSize)
		require.LessOrEqual(t, b.Hi, s.Off+s.Len)
		require.Less(t, b.Lo, b.Hi)
		require.LessOrEqual(t, b.Hi-b.Lo, optim.BlockSize)
		for i := b.Lo; i < b.Hi; i++ {
			seen[i]++
		}
	}
	for _, s := range segments {
		for i := range s.Len {
			seen[s.Off+i]--
		}
	}
	require.Equal(t, make([]int, n), seen)
}

func ExampleNew() {
	c, err := optim.DefaultConfig("lion")
	if err != nil {
		panic(err)
	}
	params := []float32{1, -2, 3}
	grads := []float32{0.5, -0.25, 0}
	o, err := optim.New(c, nil, len(params), nil)
	if err != nil {
		panic(err)
	}
	o.Step(params, grads, 0.125, 1)
	fmt.Println(o.Name(), params)
	// Output: lion [0.875 -1.875 3]
}
