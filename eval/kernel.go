package eval

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mathext/prng"
)

// KIDConfig says how the kernel distance is estimated.
type KIDConfig struct {
	Subsets    int    // estimates that are averaged
	SubsetSize int    // images of each set in one estimate, at least 2
	Seed       uint32 // of the choice of subsets
}

// DefaultKIDConfig is torch-fidelity's: 100 subsets of 1000 images, seed 2020.
func DefaultKIDConfig() KIDConfig { return KIDConfig{Subsets: 100, SubsetSize: 1000, Seed: 2020} }

// KID is the squared maximum mean discrepancy with the kernel (x'y/dim + 1)^3
// (Binkowski et al., arXiv 1801.01401, section 4): mean and population standard
// deviation of the unbiased estimate over random subsets. The mean may be slightly
// negative when the sets are alike.
//
// The subsets are those of torch-fidelity, image by image: NumPy's RandomState
// (MT19937) with choice(n, size, replace=False), generated set first.
func KID(generated, reference Features, c KIDConfig) (mean, std float64, err error) {
	if err := checkPair(generated, reference); err != nil {
		return 0, 0, err
	}
	if c.Subsets < 1 || c.SubsetSize < 2 {
		return 0, 0, fmt.Errorf("eval: KID of %d subsets of %d images; there must be at least 1 subset of 2", c.Subsets, c.SubsetSize)
	}
	if n := min(generated.Len(), reference.Len()); n < c.SubsetSize {
		return 0, 0, fmt.Errorf("eval: %w: KID subsets of %d need as many on both sides, there are %d generated and %d reference ones",
			ErrTooFew, c.SubsetSize, generated.Len(), reference.Len())
	}
	source := newRandomState(c.Seed)
	k := newKernelSums(c.SubsetSize, generated.Dim)
	estimates := make([]float64, c.Subsets)
	for i := range estimates {
		k.gather(k.x, generated, source.permutation(generated.Len()))
		k.gather(k.y, reference, source.permutation(reference.Len()))
		estimates[i] = k.mmd2()
	}
	mean, std = meanStd(estimates)
	return mean, std, nil
}

// kernelSums computes one estimate.
type kernelSums struct {
	x, y blas64.General // [size, dim]
	k    blas64.General // [size, size]
}

func newKernelSums(size, dim int) *kernelSums {
	general := func(rows, cols int) blas64.General {
		return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
	}
	return &kernelSums{x: general(size, dim), y: general(size, dim), k: general(size, size)}
}

// gather copies the first rows of a permutation.
func (s *kernelSums) gather(dst blas64.General, f Features, order []int) {
	for i := range dst.Rows {
		row := dst.Data[i*dst.Stride:][:dst.Cols]
		for j, v := range f.Row(order[i]) {
			row[j] = float64(v)
		}
	}
}

// mmd2 is the unbiased estimate (Gretton et al., 2012, equation 3, with sets of one
// size): within a set the diagonal is left out, across the sets it is not.
func (s *kernelSums) mmd2() float64 {
	xx, xxDiagonal := s.sum(s.x, s.x)
	yy, yyDiagonal := s.sum(s.y, s.y)
	xy, _ := s.sum(s.x, s.y)
	m := float64(s.x.Rows)
	return (xx-xxDiagonal+yy-yyDiagonal)/(m*(m-1)) - 2*xy/(m*m)
}

// sum is the sum of the kernel over all pairs, and over pairs of equal index.
func (s *kernelSums) sum(a, b blas64.General) (all, diagonal float64) {
	blas64.Gemm(blas.NoTrans, blas.Trans, 1/float64(a.Cols), a, b, 0, s.k)
	for i := range s.k.Rows {
		var row float64
		for j, v := range s.k.Data[i*s.k.Stride:][:s.k.Cols] {
			v++
			v = v * v * v
			row += v
			if i == j {
				diagonal += v
			}
		}
		all += row
	}
	return all, diagonal
}

// randomState is as much of NumPy's legacy RandomState as subsets need.
type randomState struct{ mt *prng.MT19937 }

func newRandomState(seed uint32) *randomState {
	r := &randomState{mt: prng.NewMT19937()}
	r.mt.Seed(uint64(seed))
	return r
}

// interval is a value in [0, limit]: words masked to the bits of limit, the first
// that is not above it.
func (r *randomState) interval(limit uint32) uint32 {
	mask := limit
	for shift := 1; shift < 32; shift *= 2 {
		mask |= mask >> shift
	}
	for {
		if v := r.mt.Uint32() & mask; v <= limit {
			return v
		}
	}
}

// permutation is RandomState.permutation(n): Fisher-Yates from the end.
func (r *randomState) permutation(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := r.interval(uint32(i))
		order[i], order[j] = order[j], order[i]
	}
	return order
}
