package optim

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// EDM2's two lengths.
func TestPowerExponentsOfEDM2(t *testing.T) {
	p, err := NewProfiles([]float64{0.05, 0.10})
	require.NoError(t, err)
	require.InDelta(t, 16.97, p.exponents[0], 0.005)
	require.InDelta(t, 6.94, p.exponents[1], 0.005)
	require.Equal(t, "power_ema_0_05", p.Slot(0))
	require.Equal(t, "power_ema_0_1", p.Slot(1))
	require.Zero(t, p.Decay(0, 1), "the first update replaces what was there")
	for _, bad := range [][]float64{{0.1, 0.05}, {0.1, 0.1}, {0}, {0.3}, {math.NaN()}} {
		_, err := NewProfiles(bad)
		require.ErrorIs(t, err, ErrPostHoc)
	}
}

// What training tracks, update by update, is the average over all updates by the closed
// form of the profile.
func TestTrackedAverageIsTheClosedForm(t *testing.T) {
	p, err := NewProfiles([]float64{0.02, 0.1, 0.28})
	require.NoError(t, err)
	const end = 500
	path := walk(end)
	for k, gamma := range p.exponents {
		tracked, closed := 0.0, 0.0
		for s := int64(1); s <= end; s++ {
			tracked += (1 - p.Decay(k, s)) * (path[s] - tracked)
		}
		for s := 1.0; s <= end; s++ {
			closed += (math.Pow(s/end, gamma+1) - math.Pow((s-1)/end, gamma+1)) * path[int(s)]
		}
		require.InDelta(t, closed, tracked, 1e-12)
	}
}

// walk is a path of one weight. [end+1]
func walk(end int) []float64 {
	r := rand.New(rand.NewPCG(4, 5))
	path := make([]float64, end+1)
	for s := 1; s <= end; s++ {
		path[s] = path[s-1] + r.NormFloat64()
	}
	return path
}

// Averages stored now and then give the average of any length: nearly what a brute-force
// average over all updates gives, and exactly what was tracked itself.
func TestFitProfilesIsTheAverageOverAllUpdates(t *testing.T) {
	p, err := NewProfiles([]float64{0.05, 0.10})
	require.NoError(t, err)
	const end, every = 4000, 250
	path := walk(end)
	var at []int64
	var stored, now []float64
	now = make([]float64, 2)
	for s := int64(1); s <= end; s++ {
		for k := range now {
			now[k] += (1 - p.Decay(k, s)) * (path[s] - now[k])
		}
		if s%every == 0 {
			at, stored = append(at, s), append(stored, now...)
		}
	}
	deviation := 0.0 // of the path over the end of the training, what an average can be off by
	for s := end - end/4; s <= end; s++ {
		deviation = max(deviation, math.Abs(path[s]-path[end]))
	}
	for length, tolerance := range map[float64]float64{0.02: 0.15, 0.03: 0.05, 0.05: 1e-9, 0.07: 0.01, 0.1: 1e-9, 0.15: 0.01, 0.2: 0.03, 0.25: 0.05} {
		f, err := FitProfiles(at, p, length)
		require.NoError(t, err)
		require.Len(t, f.Weights, len(stored))
		gamma, err := PowerExponent(length)
		require.NoError(t, err)
		want, got, sum := 0.0, 0.0, 0.0
		for s, w := range powerProfile(end, gamma) {
			want += w * path[s]
		}
		for i, w := range f.Weights {
			got += w * stored[i]
			sum += w
		}
		require.InDelta(t, 1, sum, 1e-6)
		require.InDelta(t, want, got, max(tolerance*deviation, 1e-6), "length %g", length)
		require.InDelta(t, 0, f.Residual, max(2*tolerance, 1e-5), "length %g", length)
	}
	_, err = FitProfiles([]int64{5, 5}, p, 0.1)
	require.ErrorIs(t, err, ErrPostHoc)
	_, err = FitProfiles(nil, p, 0.1)
	require.ErrorIs(t, err, ErrPostHoc)
}

// With many updates the sums are EDM2's integrals (appendix C, algorithm 2: p_dot_p).
func TestInnerProductsAreEDM2s(t *testing.T) {
	pDotP := func(ta, ga, tb, gb float64) float64 {
		ratio, exponent := ta/tb, gb
		if ta >= tb {
			exponent = -ga
		}
		return (ga + 1) * (gb + 1) * math.Pow(ratio, exponent) / ((ga + gb + 1) * max(ta, tb))
	}
	const end = 20000
	for _, c := range [][4]float64{{end, 16.97, end, 6.94}, {end / 2, 6.94, end, 16.97}, {end / 2, 16.97, end / 2, 16.97}} {
		sum := 0.0
		for s := 1.0; s <= min(c[0], c[2]); s++ {
			sum += step(s, c[0], c[1]) * step(s, c[2], c[3])
		}
		require.InEpsilon(t, pDotP(c[0], c[1], c[2], c[3]), sum, 2e-3)
	}
}
