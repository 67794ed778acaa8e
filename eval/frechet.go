package eval

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// rankTolerance is what a pivot of the factorisation counts as 0 below, as a part of the
// largest variance: some times the rounding error of a float64.
const rankTolerance = 1e-15

// Frechet is the squared Frechet distance between two Gaussians (Dowson & Landau,
// 1982; FID of Heusel et al., arXiv 1706.08500, equation 6):
//
//	|mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)
//
// The last trace is the sum of the square roots of the eigenvalues of S1 S2. With S1 =
// L L' by a pivoted Cholesky factorisation they are those of the symmetric matrix L' S2 L,
// whose size is the rank of S1: small where there are fewer images than dimensions, and
// without the eigenvectors that a square root of S1 needs. Small negative eigenvalues are
// rounding and count as 0.
func Frechet(a, b Statistics) (float64, error) {
	if err := errors.Join(a.check(), b.check()); err != nil {
		return 0, err
	}
	if len(a.Mu) != len(b.Mu) {
		return 0, fmt.Errorf("eval: statistics of %d and of %d features: they come from different networks", len(a.Mu), len(b.Mu))
	}
	var distance float64
	for i, v := range a.Mu {
		d := v - b.Mu[i]
		distance += d * d
	}
	symmetric := projected(a.Sigma, b.Sigma)
	var eigen mat.EigenSym
	if !eigen.Factorize(symmetric, false) {
		return 0, errors.New("eval: the eigenvalues of the product of covariances do not converge")
	}
	var trace float64
	for _, v := range eigen.Values(nil) {
		trace += math.Sqrt(max(v, 0))
	}
	distance += mat.Trace(a.Sigma) + mat.Trace(b.Sigma) - 2*trace
	if distance-distance != 0 {
		return 0, fmt.Errorf("eval: %w: the Frechet distance overflows", ErrNotFinite)
	}
	return distance, nil
}

// projected is L' s L, where L L' = a: [rank, rank].
func projected(a, s *mat.SymDense) *mat.SymDense {
	n := a.SymmetricDim()
	var largest float64
	for i := range n {
		largest = max(largest, a.At(i, i))
	}
	var factor mat.PivotedCholesky
	factor.Factorize(a, rankTolerance*largest) // false only says that the rank is less than n
	rank := factor.Rank()
	if rank == 0 {
		return mat.NewSymDense(1, nil)
	}
	var upper mat.TriDense
	factor.UTo(&upper)
	pivots := factor.ColumnPivots(nil)
	rows := mat.NewDense(rank, n, nil) // L', its columns in the order of the pivots
	for i := range rank {
		for j := i; j < n; j++ {
			rows.Set(i, j, upper.At(i, j))
		}
	}
	permuted := mat.NewDense(n, n, nil)
	for i := range n {
		for j := range n {
			permuted.Set(i, j, s.At(pivots[i], pivots[j]))
		}
	}
	var half, product mat.Dense
	half.Mul(rows, permuted)
	product.Mul(&half, rows.T())
	symmetric := mat.NewSymDense(rank, nil)
	for i := range rank {
		for j := i; j < rank; j++ {
			symmetric.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
	return symmetric
}
