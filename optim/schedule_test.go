package optim_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/optim"
)

func TestLearningRate(t *testing.T) {
	paper := optim.LRConfig{Base: 2e-4, WarmupSteps: 200}
	require.NoError(t, paper.Validate())
	require.Zero(t, paper.At(0), "the first update has learning rate 0")
	require.InDelta(t, 1e-6, paper.At(1), 1e-20)
	require.InDelta(t, 1e-4, paper.At(100), 1e-18)
	for _, step := range []int64{200, 201, 780_000} {
		require.InDelta(t, 2e-4, paper.At(step), 0)
	}

	for _, s := range []optim.Schedule{optim.Linear, optim.Cosine} {
		c := optim.LRConfig{Base: 1, WarmupSteps: 10, Schedule: s, TotalSteps: 110, Min: 0.2}
		require.NoError(t, c.Validate())
		for step := range int64(130) {
			p := math.Min(1, math.Max(0, float64(step-10)/100))
			want := 1 - 0.8*p
			if s == optim.Cosine {
				want = 0.2 + 0.8*(1+math.Cos(math.Pi*p))/2
			}
			if step < 10 {
				want = float64(step) / 10
			}
			require.InDelta(t, want, c.At(step), 4e-16, "%s at %d", s, step)
		}
	}
	require.InDelta(t, 0.5, optim.LRConfig{Base: 0.5}.At(0), 0, "no warm-up, no schedule")
}

func TestLearningRateErrors(t *testing.T) {
	for _, tc := range []struct {
		c    optim.LRConfig
		want string
	}{
		{optim.LRConfig{Base: math.NaN()}, "base learning rate is NaN"},
		{optim.LRConfig{WarmupSteps: -1}, "warmup_steps is -1"},
		{optim.LRConfig{Schedule: "step"}, `schedule is "step", want one of constant, linear, cosine`},
		{optim.LRConfig{Schedule: optim.Cosine, WarmupSteps: 5, TotalSteps: 5}, "total_steps is 5, want more than warmup_steps, 5"},
		{optim.LRConfig{Base: 1, Schedule: optim.Linear, TotalSteps: 5, Min: 2}, "min learning rate is 2, want 0 to base, 1"},
	} {
		err := tc.c.Validate()
		require.ErrorIs(t, err, optim.ErrConfig)
		require.ErrorContains(t, err, tc.want)
	}
}

func TestEMA(t *testing.T) {
	c := optim.EMAConfig{Decay: 0.9999, Warmup: true}
	require.NoError(t, c.Validate())
	require.InDelta(t, 2.0/11, c.At(1), 1e-16)
	require.InDelta(t, 0.9999, c.At(1_000_000), 1e-16)
	require.InDelta(t, 0.9999, optim.EMAConfig{Decay: 0.9999}.At(1), 0)
	require.ErrorIs(t, optim.EMAConfig{Decay: 1}.Validate(), optim.ErrConfig)
	require.ErrorIs(t, optim.EMAConfig{Decay: math.NaN()}.Validate(), optim.ErrConfig)

	r := rand.New(rand.NewPCG(1, 1))
	x, avg := random(r, 50, 1), random(r, 50, 1)
	want := make([]float64, len(avg))
	for i := range avg {
		want[i] = float64(avg[i])
	}
	seen := trails{}
	for range 20 {
		optim.EMA(avg, x, 0.9)
		for i := range want {
			want[i] = 0.9*want[i] + 0.1*float64(x[i])
			seen.requireClose(t, fmt.Sprint("average ", i), want[i], avg[i])
		}
	}

	at := append([]float32(nil), x...)
	for range 1000 {
		optim.EMA(at, x, 0.9999)
	}
	require.Equal(t, x, at, "the average rests where it equals the parameters")
	optim.EMA(avg, x, 0)
	require.Equal(t, x, avg, "decay 0 copies")
}

func TestNorms(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{0, 1, 15, 16, 17, 100, 1000} {
		x := random(r, n, 3)
		var lanes, squares [optim.Lanes]float64
		for i, v := range x {
			lanes[i%optim.Lanes] += math.Abs(float64(v))
			squares[i%optim.Lanes] += float64(v) * float64(v)
		}
		tree := func(s []float64) float64 {
			for len(s) > 1 {
				for i := range s[:len(s)/2] {
					s[i] += s[i+len(s)/2]
				}
				s = s[:len(s)/2]
			}
			return s[0]
		}
		l1, sq := optim.Norms(x)
		require.Equal(t, math.Float64bits(tree(lanes[:])), math.Float64bits(l1), "the order of the sum is part of the contract")
		require.Equal(t, math.Float64bits(tree(squares[:])), math.Float64bits(sq))
	}
	l1, sq := optim.Norms([]float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32})
	require.False(t, math.IsInf(l1, 0) || math.IsInf(sq, 0), "finite elements never overflow the sums")
}

func TestMeter(t *testing.T) {
	segments, n := layout()
	x := random(rand.New(rand.NewPCG(3, 3)), n, 1)
	l1, sq := make([]float64, len(segments)), 0.0
	for i, s := range segments {
		for _, v := range x[s.Off : s.Off+s.Len] {
			l1[i] += math.Abs(float64(v))
			sq += float64(v) * float64(v)
		}
	}
	var first float64
	for _, r := range []optim.Runner{nil, goroutines(1), goroutines(3)} {
		m := optim.NewMeter(segments, r, nil)
		for range 2 { // the second measurement starts afresh
			norm, finite := m.Measure(x)
			require.True(t, finite)
			require.InEpsilon(t, math.Sqrt(sq), norm, 1e-12)
			for i, s := range segments {
				require.InDelta(t, l1[i], m.L1()[i], 1e-12*l1[i], s.Name)
			}
			if first == 0 {
				first = norm
			}
			require.Equal(t, math.Float64bits(first), math.Float64bits(norm), "threads do not matter")
		}
	}
	m := optim.NewMeter(segments, nil, nil)
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, s := range segments {
			if s.Len == 0 {
				continue
			}
			y := append([]float32(nil), x...)
			y[s.Off+s.Len-1] = bad
			_, finite := m.Measure(y)
			require.False(t, finite, "%v in %s", bad, s.Name)
		}
	}
	x[n-1], x[segments[1].Off+segments[1].Len] = float32(math.NaN()), float32(math.NaN())
	_, finite := m.Measure(x)
	require.True(t, finite, "padding is not read")
}

func TestClipScale(t *testing.T) {
	require.InDelta(t, 1, optim.ClipScale(0.5, 1), 0)
	require.InDelta(t, 1/(4+1e-6), optim.ClipScale(4, 1), 1e-17)
	require.Less(t, optim.ClipScale(1, 1), 1.0, "PyTorch scales a norm equal to the limit by 1/(1+1e-6)")
	require.InDelta(t, 1, optim.ClipScale(1e30, 0), 0, "0 is off")
}

func ExampleLRConfig() {
	c := optim.LRConfig{Base: 2e-3, WarmupSteps: 100, Schedule: optim.Cosine, TotalSteps: 600}
	for _, step := range []int64{0, 50, 100, 350, 600} {
		fmt.Printf("%d %.4g\n", step, c.At(step))
	}
	// Output:
	// 0 0
	// 50 0.001
	// 100 0.002
	// 350 0.001
	// 600 0
}

// The size of the paper's UNet, one tensor.
const unetParams = 35_746_307

func BenchmarkStep(b *testing.B) {
	for _, name := range optim.Names() {
		b.Run(name, func(b *testing.B) {
			c, err := optim.DefaultConfig(name)
			require.NoError(b, err)
			o, err := optim.New(c, nil, unetParams, nil)
			require.NoError(b, err)
			w, g := make([]float32, unetParams), make([]float32, unetParams)
			for i := range g {
				g[i] = float32(i%7) - 3
			}
			bytes := 4 * (3 + 2*len(o.Slots())) // g and w read, w written, each slot read and written
			b.SetBytes(int64(bytes) * unetParams)
			var t int64
			for b.Loop() {
				t++
				o.Step(w, g, 1e-4, t)
			}
		})
	}
}
