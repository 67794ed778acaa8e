package eval

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// momentBlock is how many rows are added to the covariance at once.
const momentBlock = 64

// Moments accumulates the mean and the covariance of rows of a fixed length. It
// keeps Dim^2 + 64 Dim values whatever the number of rows.
type Moments struct {
	dim     int
	n       int
	shift   []float64 // the first row: sums of differences cancel less
	sum     []float64 // of x - shift
	scatter blas64.Symmetric
	block   []float64 // rows not yet in scatter, x - shift
}

// NewMoments returns an accumulator of rows of dim values.
func NewMoments(dim int) *Moments {
	return &Moments{
		dim: dim, shift: make([]float64, dim), sum: make([]float64, dim),
		scatter: blas64.Symmetric{N: dim, Stride: dim, Data: make([]float64, dim*dim), Uplo: blas.Upper},
		block:   make([]float64, 0, momentBlock*dim),
	}
}

// Add adds rows: len(rows) is a multiple of the dimension. How rows are
// distributed over calls changes no bit of the result.
func (m *Moments) Add(rows []float32) {
	if len(rows)%m.dim != 0 {
		panic(fmt.Sprintf("eval: %d values are not rows of %d", len(rows), m.dim))
	}
	for ; len(rows) > 0; rows = rows[m.dim:] {
		row := rows[:m.dim]
		if m.n == 0 {
			for i, v := range row {
				m.shift[i] = float64(v)
			}
		}
		for i, v := range row {
			d := float64(v) - m.shift[i]
			m.sum[i] += d
			m.block = append(m.block, d)
		}
		m.n++
		if len(m.block) == cap(m.block) {
			m.flush()
		}
	}
}

func (m *Moments) flush() {
	if rows := len(m.block) / m.dim; rows > 0 {
		x := blas64.General{Rows: rows, Cols: m.dim, Stride: m.dim, Data: m.block}
		blas64.Syrk(blas.Trans, 1, x, 1, m.scatter)
		m.block = m.block[:0]
	}
}

// Len is the number of rows added.
func (m *Moments) Len() int { return m.n }

// Statistics returns the mean and the covariance with divisor n - 1. It fails with
// ErrTooFew below two rows.
func (m *Moments) Statistics() (Statistics, error) {
	if m.n < 2 {
		return Statistics{}, fmt.Errorf("eval: %w: a covariance needs 2, there is %d", ErrTooFew, m.n)
	}
	m.flush()
	n := float64(m.n)
	mu := make([]float64, m.dim)
	for i := range mu {
		mu[i] = m.shift[i] + m.sum[i]/n
	}
	sigma := mat.NewSymDense(m.dim, nil)
	for i := range m.dim {
		for j := i; j < m.dim; j++ {
			sigma.SetSym(i, j, (m.scatter.Data[i*m.dim+j]-m.sum[i]*m.sum[j]/n)/(n-1))
		}
	}
	s := Statistics{Mu: mu, Sigma: sigma}
	return s, s.check()
}

// Statistics is what the Frechet distance needs of a set of images.
type Statistics struct {
	Mu    []float64     // [Dim]
	Sigma *mat.SymDense // [Dim, Dim]
}

// check reports a shape that does not fit or a value that is not finite.
func (s Statistics) check() error {
	if s.Sigma == nil || len(s.Mu) == 0 || s.Sigma.SymmetricDim() != len(s.Mu) {
		return fmt.Errorf("eval: a mean of %d values does not belong to its covariance", len(s.Mu))
	}
	for i, v := range s.Mu {
		if v-v != 0 {
			return fmt.Errorf("eval: %w: mean[%d] is %v", ErrNotFinite, i, v)
		}
		for j := i; j < len(s.Mu); j++ {
			if v := s.Sigma.At(i, j); v-v != 0 {
				return fmt.Errorf("eval: %w: covariance[%d,%d] is %v", ErrNotFinite, i, j, v)
			}
		}
	}
	return nil
}
