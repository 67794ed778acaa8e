package compare

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Values from scipy.stats: ttest_rel, t.ppf.
func TestPaired(t *testing.T) {
	a, b := []float64{9.34, 9.10, 9.41, 9.22, 9.30}, []float64{9.22, 9.05, 9.28, 9.20, 9.11}
	d := make([]float64, len(a))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	p := paired(d, 0.12)
	require.InDelta(t, 0.102, p.Mean, 1e-12)
	require.InDelta(t, 0.06760177512462252, p.SD, 1e-12)
	require.InDelta(t, 0.08393869038691074, p.Half, 1e-9)
	require.InDelta(t, 0.02794369425452249, p.P, 1e-9)
	require.InDelta(t, 0.102/0.06760177512462252, p.Effect, 1e-12)

	require.True(t, math.IsNaN(paired([]float64{1}, 1).P))
	require.Equal(t, 1.0, paired([]float64{0, 0, 0}, 1).P)
	require.Zero(t, paired([]float64{2, 2, 2}, 1).P)
}

// Values from scipy.stats.nct; those of 0.2, 0.5 and 0.8 stand in Cohen's tables.
func TestPower(t *testing.T) {
	for _, c := range []struct {
		d    float64
		n    int
		want float64
	}{
		{0.5, 34, 0.8077775012792737},
		{1, 5, 0.40138991737179386},
		{1, 2, 0.0928091550544744},
		{0.2, 199, 0.8016910240377381},
		{0, 7, 0.05},
		{2, 3, 0.4707494312554774},
	} {
		require.InDelta(t, c.want, powerOf(c.d, c.n), 1e-5, "%v %d", c.d, c.n)
	}
	for d, n := range map[float64]int{.2: 199, .5: 34, .8: 15, 1: 10, 2: 5, 5: 3} {
		require.Equal(t, n, seedsNeeded(d, 1), "%v", d)
	}
	require.Zero(t, seedsNeeded(1e-6, 1))
	require.Equal(t, 2, seedsNeeded(1, 0))
}

func TestHolm(t *testing.T) {
	family := []*Paired{{P: 0.04}, {P: 0.01}, {P: math.NaN(), Holm: math.NaN()}, {P: 0.03}, {P: 0.9}}
	holm(family)
	for i, want := range []float64{0.09, 0.04, math.NaN(), 0.09, 0.9} {
		if i == 2 {
			require.True(t, math.IsNaN(family[i].Holm))
			continue
		}
		require.InDelta(t, want, family[i].Holm, 1e-12)
	}
}
