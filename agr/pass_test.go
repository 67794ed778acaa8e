package agr_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// The fused pass on every kernel, for every thread count, is the composition,
// to the bit.
func TestFusedEqualsUnfused(t *testing.T) {
	const updates = 4
	segments, n := layout()
	jobs := map[string]job{
		"clip, average": {decay: 0.99, clip: 1},
		"copy":          {decay: 0},
		"bare":          {noEMA: true},
	}
	for label, c := range configs(t) {
		kernels := agr.KernelNames()
		if c.Name != "adan" {
			kernels = kernels[:1] // the others have the portable second pass only
		}
		for _, on := range []bool{true, false} {
			for name, j := range jobs {
				if c.Name != "adan" && j.clip == 0 {
					continue
				}
				reference, err := agr.NewUnfusedPass(c, on, segments, n, nil)
				require.NoError(t, err)
				want := newState(n)
				stats := make([]optim.Stats, updates+1)
				for i := int64(1); i <= updates; i++ {
					stats[i] = apply(reference, j.update(want, i))
					require.True(t, stats[i].Finite)
				}
				wanted := bits(reference, want)
				for _, kernel := range kernels {
					t.Setenv("AGRDIST_CPU", kernel)
					for _, r := range []optim.Runner{nil, goroutines(2), goroutines(3)} {
						p, err := agr.NewPass(c, on, segments, n, r)
						require.NoError(t, err)
						require.Equal(t, reference.Name(), p.Name())
						got := newState(n)
						for i := int64(1); i <= updates; i++ {
							require.Equal(t, stats[i], apply(p, j.update(got, i)))
						}
						for slot, want := range bits(p, got) {
							require.True(t, slices.Equal(wanted[slot], want), "%s agr=%v %s, kernel %s, runner %v: %s", label, on, name, kernel, r, slot)
						}
					}
				}
			}
		}
	}
}

// Every length has its whole vectors and its rest.
func TestKernelsAtEveryLength(t *testing.T) {
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	for n := range 80 {
		reference, err := agr.NewUnfusedPass(c, true, nil, n, nil)
		require.NoError(t, err)
		want := newState(n)
		j := job{decay: 0.5, clip: 0.1}
		for i := int64(1); i <= 2; i++ {
			apply(reference, j.update(want, i))
		}
		for _, kernel := range agr.KernelNames() {
			t.Setenv("AGRDIST_CPU", kernel)
			p, err := agr.NewPass(c, true, nil, n, nil)
			require.NoError(t, err)
			got := newState(n)
			for i := int64(1); i <= 2; i++ {
				apply(p, j.update(got, i))
			}
			require.Equal(t, bits(reference, want), bits(p, got), "%d elements on %s", n, kernel)
		}
	}
}

// adanReference is clip, AGR, Adan and the moving average in float64, in the
// order of the authors' script: the clipped gradient goes into AGR.
type adanReference struct {
	w, ema, m, v, n, prev []float64
}

func (a *adanReference) update(segments []optim.Segment, g []float64, lr, maxNorm, decay float64, t int64) {
	var sq float64
	for _, s := range segments {
		for _, v := range g[s.Off : s.Off+s.Len] {
			sq += v * v
		}
	}
	scale := math.Min(1, maxNorm/(math.Sqrt(sq)+1e-6))
	for _, s := range segments {
		clipped := make([]float64, s.Len)
		for i, v := range g[s.Off : s.Off+s.Len] {
			clipped[i] = scale * v
		}
		for i, v := range formula(clipped) {
			i += s.Off
			d := v - a.prev[i]
			if t == 1 {
				d = 0
			}
			a.m[i] = 0.98*a.m[i] + 0.02*v
			a.v[i] = 0.92*a.v[i] + 0.08*d
			a.n[i] = 0.99*a.n[i] + 0.01*(v+0.92*d)*(v+0.92*d)
			a.prev[i] = v
			den := math.Sqrt(a.n[i])/math.Sqrt(1-math.Pow(0.99, float64(t))) + 1e-8
			a.w[i] -= lr / (1 - math.Pow(0.98, float64(t))) * a.m[i] / den
			a.w[i] -= lr * 0.92 / (1 - math.Pow(0.92, float64(t))) * a.v[i] / den
			a.ema[i] = decay*a.ema[i] + (1-decay)*a.w[i]
		}
	}
}

func TestUpdateMatchesFormulas(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	p, err := agr.NewPass(c, true, segments, n, goroutines(2))
	require.NoError(t, err)
	require.Equal(t, "adan(agr)", p.Name())
	got := newState(n)
	ref := adanReference{float64s(got.params), float64s(got.ema), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
	for i := int64(1); i <= 12; i++ {
		j := job{decay: 0.9, clip: 1}
		u := j.update(got, i)
		ref.update(segments, float64s(u.Grads.(tensor.Floats)), u.LR, 1, 0.9, i)
		stats := apply(p, u)
		require.True(t, stats.Finite)
		require.Equal(t, i%3 != 0, stats.Clip < 1, "update %d: clipped by %v at norm %v", i, stats.Clip, stats.GradNorm)
		for k := range got.params {
			scale := math.Max(math.Abs(ref.w[k]), u.LR)
			if d := math.Abs(ref.w[k] - float64(got.params[k])); !(d <= 3e-6*scale) {
				require.Failf(t, "parameter", "%d after update %d: want %v, got %v", k, i, ref.w[k], got.params[k])
			}
			if d := math.Abs(ref.ema[k] - float64(got.ema[k])); !(d <= 3e-6*scale) {
				require.Failf(t, "average", "%d after update %d: want %v, got %v", k, i, ref.ema[k], got.ema[k])
			}
		}
	}
}

// Adan's own clipping measures the gradient before AGR, after the update's clipping: the
// state has what the formulas give.
func TestOwnClippingMeasuresBeforeAGR(t *testing.T) {
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	c.MaxGradNorm = 0.25
	g := []float32{3, -1, 0.5, 2}
	norm := math.Sqrt(9 + 1 + 0.25 + 4)
	for _, maxNorm := range []float64{0, 1, 0.1} {
		want := 1.0
		if maxNorm > 0 {
			want = math.Min(1, maxNorm/(norm+1e-6))
		}
		want *= math.Min(1, 0.25/(norm*want+c.Eps))
		for name, build := range map[string]func(optim.Config, bool, []optim.Segment, int, optim.Runner) (agr.Pass, error){
			"fused": agr.NewPass, "unfused": agr.NewUnfusedPass,
		} {
			p, err := build(c, true, nil, len(g), nil)
			require.NoError(t, err)
			stats := apply(p, optim.Update{
				Params: tensor.Floats(make([]float32, 4)), Grads: tensor.Floats(append([]float32(nil), g...)),
				LR: 0.1, T: 1, MaxGradNorm: maxNorm,
			})
			require.InEpsilon(t, want, stats.Clip, 1e-12, name)
			regularized := make([]float32, len(g))
			agr.Transform(regularized, g)
			for _, s := range p.Slots() {
				if s.Name == "neg_pre_grad" {
					for i, v := range s.Float32s() {
						require.InEpsilon(t, -want*float64(regularized[i]), v, 1e-6, name)
					}
				}
			}
		}
	}
}

func TestNonFiniteGradientWritesNothing(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	fused, err := agr.NewPass(c, true, segments, n, nil)
	require.NoError(t, err)
	unfused, err := agr.NewUnfusedPass(c, true, segments, n, nil)
	require.NoError(t, err)
	j := job{decay: 0.9, clip: 1}
	for name, p := range map[string]agr.Pass{"fused": fused, "unfused": unfused} {
		s := newState(n)
		require.True(t, apply(p, j.update(s, 1)).Finite)
		before := bits(p, s)
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
			for _, at := range []int{0, optim.BlockSize, segments[2].Off, n - 10} {
				u := j.update(s, 2)
				u.Grads.(tensor.Floats)[at] = bad
				stats := apply(p, u)
				require.False(t, stats.Finite)
				require.Zero(t, stats.Clip)
				require.Equal(t, before, bits(p, s), "%s: %v at %d", name, bad, at)
			}
		}
		require.True(t, apply(p, j.update(s, 2)).Finite, "and continues")
		require.NotEqual(t, before, bits(p, s))
	}
}

// What was measured and not applied leaves no trace, and is applied once.
func TestMeasureLeavesNoTrace(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	j := job{decay: 0.9, clip: 1}
	for _, build := range []func(optim.Config, bool, []optim.Segment, int, optim.Runner) (agr.Pass, error){agr.NewPass, agr.NewUnfusedPass} {
		straight, err := build(c, true, segments, n, nil)
		require.NoError(t, err)
		p, err := build(c, true, segments, n, nil)
		require.NoError(t, err)
		require.Panics(t, func() { _ = p.Apply() }, "nothing was measured")
		want, got := newState(n), newState(n)
		for i := int64(1); i <= 3; i++ {
			apply(straight, j.update(want, i))
			before := bits(p, got)
			dropped, err := p.Measure(j.update(got, i+50))
			require.NoError(t, err)
			require.Positive(t, dropped.GradNorm)
			require.Equal(t, before, bits(p, got))
			apply(p, j.update(got, i))
			require.Equal(t, bits(straight, want), bits(p, got))
		}
		require.Panics(t, func() { _ = p.Apply() }, "applied once")
	}
}

func TestResumeEqualsUninterrupted(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	j := job{decay: 0.9, clip: 1}
	straight, err := agr.NewPass(c, true, segments, n, nil)
	require.NoError(t, err)
	want, got := newState(n), newState(n)
	for i := int64(1); i <= 6; i++ {
		apply(straight, j.update(want, i))
	}
	var p agr.Pass
	for i := int64(1); i <= 6; i++ { // a new process for every update
		next, err := agr.NewPass(c, true, segments, n, nil)
		require.NoError(t, err)
		if p != nil {
			for k, slot := range p.Slots() {
				copy(next.Slots()[k].Float32s(), slot.Float32s())
			}
		}
		p = next
		apply(p, j.update(got, i))
	}
	require.Equal(t, bits(straight, want), bits(p, got))
}

func TestComposeTakesAnyOptimizer(t *testing.T) {
	inner := &recorder{}
	p, err := agr.Compose(inner, &agr.Config{ScalarTensors: agr.ScalarKeep}, nil, 4, nil)
	require.NoError(t, err)
	stats := apply(p, optim.Update{Params: tensor.Floats(make([]float32, 4)), Grads: tensor.Floats{1, -1, 0, 2}, LR: 1, T: 1, MaxGradNorm: 0.5})
	norm := math.Sqrt(6)
	require.InDelta(t, norm, stats.GradNorm, 1e-12)
	require.InDelta(t, 0.5/(norm+1e-6), stats.Clip, 1e-12)
	scale := float32(stats.Clip)
	require.Equal(t, []float32{0.75 * scale, -0.75 * scale, 0, scale}, inner.grads)

	_, err = agr.Compose(inner, &agr.Config{Scope: "x"}, nil, 4, nil)
	require.ErrorIs(t, err, agr.ErrConfig)
	_, err = agr.Compose(inner, nil, optim.Whole(5), 4, nil)
	require.ErrorIs(t, err, optim.ErrSegments)
}

func TestPassVariants(t *testing.T) {
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	step := func(a *agr.Config) float32 {
		p, err := agr.NewPassWith(c, a, nil, 1, nil)
		require.NoError(t, err)
		w := []float32{1}
		apply(p, optim.Update{Params: tensor.Floats(w), Grads: tensor.Floats{2}, LR: 0.5, T: 1})
		return w[0]
	}
	require.InDelta(t, 1, step(&agr.Config{}), 0, "a tensor of one element never trains")
	require.InDelta(t, 0.5, step(&agr.Config{ScalarTensors: agr.ScalarKeep}), 1e-6)
	require.InDelta(t, 0.5, step(nil), 1e-6)
}

func TestPassErrors(t *testing.T) {
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	_, err = agr.NewPass(optim.Config{Name: "sgd"}, true, nil, 4, nil)
	require.ErrorIs(t, err, optim.ErrConfig)
	_, err = agr.NewPass(c, true, optim.Whole(5), 4, nil)
	require.ErrorIs(t, err, optim.ErrSegments)
	_, err = agr.NewPassWith(c, &agr.Config{Scope: "x"}, nil, 4, nil)
	require.ErrorIs(t, err, agr.ErrConfig)
	t.Setenv("AGRDIST_CPU", "mmx")
	_, err = agr.NewPass(c, true, nil, 4, nil)
	require.ErrorIs(t, err, agr.ErrConfig)
	require.ErrorContains(t, err, `AGRDIST_CPU: isa: no such instruction set: "mmx"; this processor runs go`)

	t.Setenv("AGRDIST_CPU", "go")
	p, err := agr.NewPass(c, true, nil, 4, nil)
	require.NoError(t, err)
	four := make([]float32, 4)
	for _, u := range []optim.Update{
		{Params: tensor.Floats(four[:3]), Grads: tensor.Floats(four), T: 1},
		{Params: tensor.Floats(four), Grads: tensor.Floats(four[:3]), T: 1},
		{Params: tensor.Floats(four), Grads: tensor.Floats(four), EMA: tensor.Floats(four[:3]), T: 1},
		{Params: tensor.Floats(four), Grads: tensor.Floats(four), T: 0},
		{Params: elsewhere{}, Grads: tensor.Floats(four), T: 1},
	} {
		require.Panics(t, func() { apply(p, u) })
	}
}

// AVX512BF16 has no kernels of its own here: its pass is AVX512's.
func TestKernelsOfASet(t *testing.T) {
	for _, s := range append(isa.Supported(), isa.AVX512BF16) {
		if !s.Runs() {
			continue
		}
		t.Setenv(isa.Env, s.String())
		got, err := agr.PickedKernels()
		require.NoError(t, err)
		require.Equal(t, s.F32().String(), got)
	}
	t.Setenv(isa.Env, "")
	got, err := agr.PickedKernels()
	require.NoError(t, err)
	require.Equal(t, isa.Best().String(), got)
}

// elsewhere is memory that the host does not address.
type elsewhere struct{ tensor.Buffer }

// once is a Runner of two threads that starts no goroutine: what is left of the
// allocations is the pass's own.
type once struct{}

func (once) Threads() int { return 2 }
func (once) Run(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

func TestUpdateAllocatesNothing(t *testing.T) {
	segments, n := layout()
	for label, c := range configs(t) {
		for _, kernel := range agr.KernelNames() {
			t.Setenv("AGRDIST_CPU", kernel)
			p, err := agr.NewPass(c, true, segments, n, once{})
			require.NoError(t, err)
			s := newState(n)
			u := job{decay: 0.9, clip: 1}.update(s, 1)
			require.Zero(t, testing.AllocsPerRun(3, func() { apply(p, u); u.T++ }), "%s on %s", label, kernel)
		}
	}
}

func ExampleNewPass() {
	c, err := optim.DefaultConfig("adan")
	if err != nil {
		panic(err)
	}
	params, average := []float32{1, 1, 1, 1}, []float32{1, 1, 1, 1}
	p, err := agr.NewPass(c, true, nil, len(params), nil)
	if err != nil {
		panic(err)
	}
	stats, err := agr.Update(p, optim.Update{
		Params: tensor.Floats(params), Grads: tensor.Floats{3, -3, 0, 6}, EMA: tensor.Floats(average),
		LR: 0.25, T: 1, MaxGradNorm: 1, EMADecay: 0.5,
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: norm %.3f, %.3f, average %.3f\n", p.Name(), stats.GradNorm, params, average)
	// Output: adan(agr): norm 7.348, [0.750 1.250 1.000 0.750], average [0.875 1.125 1.000 0.875]
}
