package agr_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
)

func distance(a, b []float32) float64 {
	var sum float64
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return math.Sqrt(sum)
}

// Measuring an update changes none of its bits, and every pass finds the same numbers.
func TestMovement(t *testing.T) {
	segments, n := layout()
	j := job{decay: 0.9, clip: 1}
	for _, name := range []string{"adan", "adamw", "lion"} {
		c, err := optim.DefaultConfig(name)
		require.NoError(t, err)
		unfused, err := agr.NewUnfusedPass(c, true, segments, n, nil)
		require.NoError(t, err)
		passes := []agr.Pass{unfused}
		for _, kernel := range agr.KernelNames() {
			t.Setenv("AGRDIST_CPU", kernel)
			for _, r := range []optim.Runner{nil, goroutines(2)} {
				p, err := agr.NewPass(c, true, segments, n, r)
				require.NoError(t, err)
				passes = append(passes, p)
			}
		}
		plain, err := agr.NewPass(c, true, segments, n, nil)
		require.NoError(t, err)
		want := newState(n)
		apply(plain, j.update(want, 1)) // at a learning rate of 0
		before := slices.Clone(want.params)
		stats := apply(plain, j.update(want, 2))
		var first *optim.Movement
		for _, p := range passes {
			got := newState(n)
			apply(p, j.update(got, 1))
			u := j.update(got, 2)
			u.Movement = &optim.Movement{}
			require.Equal(t, stats, apply(p, u))
			require.Equal(t, bits(plain, want), bits(p, got), "%s: measuring changed the update", name)
			if first == nil {
				first = u.Movement
			}
			require.Equal(t, *first, *u.Movement, name)
			require.InEpsilon(t, distance(got.params, before), u.Movement.Update, 1e-9)
			var squares float64 // without the padding between tensors
			for _, s := range segments {
				squares += math.Pow(distance(got.params[s.Off:s.Off+s.Len], make([]float32, s.Len)), 2)
			}
			require.InEpsilon(t, math.Sqrt(squares), u.Movement.Params, 1e-9)
			require.InEpsilon(t, distance(got.ema, got.params), u.Movement.EMA, 1e-9)
		}
	}
}

// An update that is dropped, as where a gradient is not finite, measures nothing.
func TestMovementOfNothing(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	p, err := agr.NewPass(c, true, segments, n, nil)
	require.NoError(t, err)
	s := newState(n)
	u := job{clip: 1}.update(s, 1)
	u.Grads.(interface{ Float32s() []float32 }).Float32s()[0] = float32(math.NaN())
	u.Movement = &optim.Movement{Update: -1}
	require.False(t, apply(p, u).Finite)
	require.Equal(t, -1.0, u.Movement.Update)
}

// The coefficient is the L1 norm that AGR leaves, over the one before.
func TestCoefficient(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	g := gradient(n, 1)
	var before, after float64
	for _, s := range segments {
		x := g[s.Off : s.Off+s.Len]
		y := make([]float32, len(x))
		agr.Transform(y, x)
		a, _ := optim.Norms(x)
		b, _ := optim.Norms(y)
		before, after = before+a, after+b
	}
	p, err := agr.NewPass(c, true, segments, n, nil)
	require.NoError(t, err)
	stats := apply(p, job{clip: 1}.update(newState(n), 1))
	require.InEpsilon(t, after/before, stats.AGR, 1e-6)
	require.Less(t, stats.AGR, 1.0)

	off, err := agr.NewPass(c, false, segments, n, nil)
	require.NoError(t, err)
	require.Zero(t, apply(off, job{clip: 1}.update(newState(n), 1)).AGR)
}
