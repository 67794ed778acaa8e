package eval

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// How rows are cut into calls changes no bit.
func TestStreamingIsExact(t *testing.T) {
	_, generated, reference, logits := readGolden(t)
	whole := statisticsOf(t, generated)
	for _, rows := range []int{1, 7, 64, 100} {
		m := NewMoments(generated.Dim)
		s, err := NewScore(logits.Len(), DefaultSplits, logits.Dim)
		require.NoError(t, err)
		for i := 0; i < generated.Len(); i += rows {
			m.Add(generated.Data[i*generated.Dim : min(i+rows, generated.Len())*generated.Dim])
		}
		for i := 0; i < logits.Len(); i += rows {
			s.Add(logits.Data[i*logits.Dim : min(i+rows, logits.Len())*logits.Dim])
		}
		got, err := m.Statistics()
		require.NoError(t, err)
		require.Equal(t, whole, got)
		_, _, err = s.Result()
		require.NoError(t, err)
	}
	_ = reference
}

// Scores that can be worked out by hand.
func TestScoreByHand(t *testing.T) {
	s, err := NewScore(8, 2, 4)
	require.NoError(t, err)
	for i := range 8 { // sure of each of 4 classes equally often
		logits := make([]float32, 4)
		logits[i%4] = 1000
		s.Add(logits)
	}
	mean, std, err := s.Result()
	require.NoError(t, err)
	require.InDelta(t, 4, mean, 1e-12)
	require.InDelta(t, 0, std, 1e-12)

	s, err = NewScore(4, 1, 4) // sure of nothing
	require.NoError(t, err)
	s.Add(make([]float32, 16))
	mean, _, err = s.Result()
	require.NoError(t, err)
	require.InDelta(t, 1, mean, 1e-12)
}

// Gaussians with diagonal covariances have a distance in closed form.
func TestFrechetByHand(t *testing.T) {
	m := func(rows ...float32) Statistics { return statisticsOf(t, Features{Dim: 2, Data: rows}) }
	a := m(1, 0, -1, 0, 0, 2, 0, -2) // variances 2/3 and 8/3
	b := m(3, 1, 1, 1, 2, 2, 2, 0)   // variances 2/3 and 2/3, mean (2, 1)
	d, err := Frechet(a, b)
	require.NoError(t, err)
	spread := math.Sqrt(8.0/3) - math.Sqrt(2.0/3)
	require.InDelta(t, 5+spread*spread, d, 1e-12)
}

func TestPrecisionRecallByHand(t *testing.T) {
	line := func(x ...float32) Features { return Features{Dim: 1, Data: x} }
	reference := line(0, 1, 2, 3, 100)
	got, err := PrecisionRecall(line(0.5, 1.5, 50, 2.5), reference, PRConfig{K: 1, CoverageK: 1})
	require.NoError(t, err)
	// Radii: reference 1 1 1 1 97, generated 1 1 47.5 1. 50 lies in the ball of 100.
	require.Equal(t, PR{Precision: 1, Recall: 0.8, Density: 7.0 / 4, Coverage: 1}, got)
	got, err = PrecisionRecall(line(1, 1, 1), reference, PRConfig{K: 2, CoverageK: 2})
	require.NoError(t, err)
	require.Equal(t, 1.0, got.Precision)
	require.Equal(t, 0.2, got.Recall, "a ball of radius 0 holds only its equal")
}

func TestRefusals(t *testing.T) {
	nan := float32(math.NaN())
	good, bad := Features{Dim: 1, Data: []float32{1, 2, 3}}, Features{Dim: 1, Data: []float32{1, nan, 3}}
	wide := Features{Dim: 2, Data: []float32{1, 2, 3, 4, 5, 6}}
	_, err := PrecisionRecall(good, bad, PRConfig{K: 1, CoverageK: 1})
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, "reference image 1")
	_, err = PrecisionRecall(good, good, DefaultPRConfig())
	require.ErrorIs(t, err, ErrTooFew)
	_, err = PrecisionRecall(good, good, PRConfig{})
	require.ErrorContains(t, err, "at least 1")
	_, _, err = KID(good, wide, KIDConfig{Subsets: 1, SubsetSize: 2})
	require.ErrorContains(t, err, "different networks")
	_, _, err = KID(good, good, DefaultKIDConfig())
	require.ErrorIs(t, err, ErrTooFew)
	_, _, err = KID(good, good, KIDConfig{})
	require.ErrorContains(t, err, "at least 1 subset of 2")
	_, err = NewScore(9, 10, 3)
	require.ErrorIs(t, err, ErrTooFew)
	_, err = NewScore(9, 0, 3)
	require.ErrorContains(t, err, "at least 1")

	s, err := NewScore(2, 1, 1)
	require.NoError(t, err)
	s.Add([]float32{nan})
	_, _, err = s.Result()
	require.ErrorIs(t, err, ErrTooFew)
	s.Add([]float32{1})
	_, _, err = s.Result()
	require.ErrorIs(t, err, ErrNotFinite)

	m := NewMoments(1)
	m.Add(good.Data[:1])
	_, err = m.Statistics()
	require.ErrorIs(t, err, ErrTooFew)
	m.Add([]float32{nan})
	_, err = m.Statistics()
	require.ErrorIs(t, err, ErrNotFinite)
	_, err = Frechet(statisticsOf(t, good), statisticsOf(t, wide))
	require.ErrorContains(t, err, "different networks")
	_, err = Frechet(Statistics{}, statisticsOf(t, good))
	require.Error(t, err)
}
