package eval

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Frechet is the squared Frechet distance between two Gaussians (Dowson & Landau,
// 1982; FID of Heusel et al., arXiv 1706.08500, equation 6):
//
//	|mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)
//
// The last trace is the sum of the square roots of the eigenvalues of the symmetric
// matrix S1^(1/2) S2 S1^(1/2), which has the eigenvalues of S1 S2; small negative
// ones are rounding and count as 0. Covariances of fewer images than dimensions are
// singular and need no special case.
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
	root, err := squareRoot(a.Sigma)
	if err != nil {
		return 0, err
	}
	n := len(a.Mu)
	var half, product mat.Dense
	half.Mul(root, b.Sigma)
	product.Mul(&half, root)
	symmetric := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			symmetric.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
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

// squareRoot is the symmetric square root of a positive semi-definite matrix.
func squareRoot(s *mat.SymDense) (*mat.Dense, error) {
	var eigen mat.EigenSym
	if !eigen.Factorize(s, true) {
		return nil, errors.New("eval: the eigenvalues of a covariance do not converge")
	}
	var vectors, scaled, root mat.Dense
	eigen.VectorsTo(&vectors)
	scaled.CloneFrom(&vectors)
	rows, _ := scaled.Dims()
	for j, v := range eigen.Values(nil) {
		r := math.Sqrt(max(v, 0))
		for i := range rows {
			scaled.Set(i, j, scaled.At(i, j)*r)
		}
	}
	root.Mul(&scaled, vectors.T())
	return &root, nil
}
