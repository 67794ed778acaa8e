package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

// wishart is the statistics of n rows of dim values whose scales differ widely, as those
// of Inception's features do.
func wishart(tb testing.TB, dim, n int, seed uint64) Statistics {
	tb.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m := NewMoments(dim)
	row := make([]float32, dim)
	for range n {
		common := r.NormFloat64()
		for i := range row {
			row[i] = float32(math.Exp(-float64(i%11)) * (r.NormFloat64() + 0.5*common))
		}
		m.Add(row)
	}
	s, err := m.Statistics()
	require.NoError(tb, err)
	return s
}

// The distance agrees with the definition by square roots of matrices, for covariances of
// full rank and singular ones, in both orders.
func TestFrechetAgainstSquareRoots(t *testing.T) {
	for _, c := range []struct{ na, nb int }{{400, 300}, {20, 300}, {20, 15}, {300, 20}, {2, 2}} {
		a, b := wishart(t, 50, c.na, 1), wishart(t, 50, c.nb, 2)
		want := byRoots(t, a, b)
		got, err := Frechet(a, b)
		require.NoError(t, err)
		require.InDelta(t, want, got, 1e-6*math.Max(1, want), "%+v", c)
		back, err := Frechet(b, a)
		require.NoError(t, err)
		require.InDelta(t, want, back, 1e-6*math.Max(1, want), "%+v", c)
		self, err := Frechet(a, a)
		require.NoError(t, err)
		require.InDelta(t, 0, self, 1e-6, "%+v", c)
	}
	zero := Statistics{Mu: []float64{1, 2}, Sigma: mat.NewSymDense(2, nil)}
	d, err := Frechet(zero, Statistics{Mu: []float64{1, 4}, Sigma: mat.NewSymDense(2, []float64{2, 0, 0, 3})})
	require.NoError(t, err)
	require.InDelta(t, 4+5, d, 1e-12, "without a variance there is no cross term")
}

// byRoots computes S1^(1/2) S2 S1^(1/2) from the eigenvectors of S1.
func byRoots(t *testing.T, a, b Statistics) float64 {
	t.Helper()
	n := len(a.Mu)
	root := func(s *mat.SymDense) *mat.Dense {
		var e mat.EigenSym
		require.True(t, e.Factorize(s, true))
		var v, scaled, out mat.Dense
		e.VectorsTo(&v)
		scaled.CloneFrom(&v)
		for j, value := range e.Values(nil) {
			for i := range n {
				scaled.Set(i, j, scaled.At(i, j)*math.Sqrt(max(value, 0)))
			}
		}
		out.Mul(&scaled, v.T())
		return &out
	}
	ra := root(a.Sigma)
	var half, product mat.Dense
	half.Mul(ra, b.Sigma)
	product.Mul(&half, ra)
	symmetric := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			symmetric.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
	d := mat.Trace(a.Sigma) + mat.Trace(b.Sigma) - 2*mat.Trace(root(symmetric))
	for i, v := range a.Mu {
		d += (v - b.Mu[i]) * (v - b.Mu[i])
	}
	return d
}

// Inception has 2048 features; fewer images than that make a covariance singular.
func BenchmarkFrechet(b *testing.B) {
	for _, c := range []struct{ dim, images int }{{512, 1000}, {2048, 1000}, {2048, 4000}} {
		b.Run(fmt.Sprintf("dim=%d/images=%d", c.dim, c.images), func(b *testing.B) {
			x, y := wishart(b, c.dim, c.images, 1), wishart(b, c.dim, 2*c.dim, 2)
			for b.Loop() {
				_, err := Frechet(x, y)
				require.NoError(b, err)
			}
		})
	}
}
