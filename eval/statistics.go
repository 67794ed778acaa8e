package eval

import (
	"cmp"
	"fmt"
	"io"

	"gonum.org/v1/gonum/mat"

	"github.com/agrdist/agrdist/eval/npz"
)

// maxFeatures bounds the features of a statistics file: 4096 squared float64 are
// 128 MiB.
const maxFeatures = 4096

// ReadStatistics reads mu [Dim] and sigma [Dim, Dim] from a statistics file, as
// pytorch-fid writes them and as they are published for data sets.
func ReadStatistics(f *npz.File) (s Statistics, err error) {
	mu, shape, err := readArray(f, "mu")
	if err != nil {
		return s, err
	}
	if len(shape) != 1 {
		return s, fmt.Errorf("eval: statistics: mu has shape %v; it must be a vector", shape)
	}
	sigma, shape, err := readArray(f, "sigma")
	if err != nil {
		return s, err
	}
	n := len(mu)
	if len(shape) != 2 || shape[0] != n || shape[1] != n {
		return s, fmt.Errorf("eval: statistics: sigma has shape %v; with %d values in mu it must be [%d %d]", shape, n, n, n)
	}
	s = Statistics{Mu: mu, Sigma: mat.NewSymDense(n, nil)}
	for i := range n {
		for j := i; j < n; j++ { // rounding may have left it a little asymmetric
			s.Sigma.SetSym(i, j, (sigma[i*n+j]+sigma[j*n+i])/2)
		}
	}
	return s, s.check()
}

func readArray(f *npz.File, name string) (values []float64, shape []int, err error) {
	a, err := f.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = cmp.Or(err, a.Close()) }()
	for _, d := range a.Shape {
		if d < 1 || d > maxFeatures {
			return nil, nil, fmt.Errorf("eval: statistics: %s has shape %v; a dimension may be 1 to %d", name, a.Shape, maxFeatures)
		}
	}
	if len(a.Shape) > 2 {
		return nil, nil, fmt.Errorf("eval: statistics: %s has shape %v; it must be a vector or a matrix", name, a.Shape)
	}
	values = make([]float64, a.Len())
	return values, a.Shape, a.Read(values)
}

// WriteStatistics writes a statistics file.
func WriteStatistics(w io.Writer, s Statistics) error {
	if err := s.check(); err != nil {
		return err
	}
	n := len(s.Mu)
	sigma := make([]float64, 0, n*n)
	for i := range n {
		for j := range n {
			sigma = append(sigma, s.Sigma.At(i, j))
		}
	}
	return npz.Write(w,
		npz.Float64s{Name: "mu", Shape: []int{n}, Data: s.Mu},
		npz.Float64s{Name: "sigma", Shape: []int{n, n}, Data: sigma})
}
