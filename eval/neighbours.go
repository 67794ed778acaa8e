package eval

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// PRConfig says which neighbour's distance is the radius of an image's ball.
type PRConfig struct {
	K         int // precision and recall: the k-th nearest
	CoverageK int // density and coverage
}

// DefaultPRConfig is k = 3 for precision and recall as in torch-fidelity, and k = 5
// for density and coverage as in their paper's experiments.
func DefaultPRConfig() PRConfig { return PRConfig{K: 3, CoverageK: 5} }

// PR tells quality (how many generated images lie where real ones are) and
// diversity (how much of the real set is reached) apart. Every value is a fraction,
// but density may exceed 1.
type PR struct {
	// Precision is the part of generated images inside some real image's ball,
	// Recall the part of real images inside some generated image's ball
	// (Kynkaanniemi et al., arXiv 1904.06991).
	Precision, Recall float64
	// Density counts, over generated images, how many real balls hold one, divided
	// by k; Coverage is the part of real images whose ball holds a generated one
	// (Naeem et al., arXiv 2002.09797). Outliers harm them less.
	Density, Coverage float64
}

// PrecisionRecall compares two sets of features. Both need more images than the
// neighbour's number. Time is quadratic in the number of images, memory linear.
func PrecisionRecall(generated, reference Features, c PRConfig) (PR, error) {
	if err := checkPair(generated, reference); err != nil {
		return PR{}, err
	}
	if c.K < 1 || c.CoverageK < 1 {
		return PR{}, fmt.Errorf("eval: neighbours %d and %d; both must be at least 1", c.K, c.CoverageK)
	}
	k := max(c.K, c.CoverageK)
	if n := min(generated.Len(), reference.Len()); n <= k {
		return PR{}, fmt.Errorf("eval: %w: the %d nearest neighbours need more on both sides, there are %d generated and %d reference ones",
			ErrTooFew, k, generated.Len(), reference.Len())
	}
	g, r := newPoints(generated), newPoints(reference)
	gRadii, rRadii := g.radii(c.K), r.radii(c.K, c.CoverageK)
	var precise, inside int
	recalled, covered := make([]bool, r.n), make([]bool, r.n)
	g.distances(r, func(i int, row []float64) {
		hit := false
		for j, d := range row {
			hit = hit || d <= rRadii[0][j]
			recalled[j] = recalled[j] || d <= gRadii[0][i]
			if d < rRadii[1][j] {
				inside++
				covered[j] = true
			}
		}
		if hit {
			precise++
		}
	})
	return PR{
		Precision: float64(precise) / float64(g.n), Recall: fraction(recalled),
		Density: float64(inside) / float64(c.CoverageK*g.n), Coverage: fraction(covered),
	}, nil
}

func fraction(set []bool) float64 {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	return float64(n) / float64(len(set))
}

// distanceBlock is how many rows of a distance matrix are in memory at once.
const distanceBlock = 128

// points are feature vectors in float64 with their squared norms.
type points struct {
	n, dim int
	x      []float64
	square []float64
}

func newPoints(f Features) *points {
	p := &points{n: f.Len(), dim: f.Dim, x: make([]float64, len(f.Data)), square: make([]float64, f.Len())}
	for i, v := range f.Data {
		p.x[i] = float64(v)
		p.square[i/f.Dim] += float64(v) * float64(v)
	}
	return p
}

func (p *points) rows(lo, hi int) blas64.General {
	return blas64.General{Rows: hi - lo, Cols: p.dim, Stride: p.dim, Data: p.x[lo*p.dim : hi*p.dim]}
}

// distances calls row with the squared distances of each point to all of q.
func (p *points) distances(q *points, row func(i int, squared []float64)) {
	block := make([]float64, distanceBlock*q.n)
	for lo := 0; lo < p.n; lo += distanceBlock {
		hi := min(lo+distanceBlock, p.n)
		d := blas64.General{Rows: hi - lo, Cols: q.n, Stride: q.n, Data: block[:(hi-lo)*q.n]}
		blas64.Gemm(blas.NoTrans, blas.Trans, -2, p.rows(lo, hi), q.rows(0, q.n), 0, d)
		for i := lo; i < hi; i++ {
			line := d.Data[(i-lo)*q.n:][:q.n]
			for j, v := range line {
				sum := p.square[i] + q.square[j]
				if v += sum; v < 1e-12*sum { // equal vectors: rounding
					v = 0
				}
				line[j] = v
			}
			row(i, line)
		}
	}
}

// radii returns for each k the squared distance of every point to its k-th nearest
// other point.
func (p *points) radii(ks ...int) [][]float64 {
	out := make([][]float64, len(ks))
	for i := range out {
		out[i] = make([]float64, p.n)
	}
	nearest := make([]float64, 0, slices.Max(ks)+1)
	p.distances(p, func(i int, row []float64) {
		nearest = nearest[:0]
		for j, d := range row {
			if j == i {
				continue
			}
			at, _ := slices.BinarySearch(nearest, d)
			if at == slices.Max(ks) {
				continue
			}
			if nearest = slices.Insert(nearest, at, d); len(nearest) > slices.Max(ks) {
				nearest = nearest[:slices.Max(ks)]
			}
		}
		for m, k := range ks {
			out[m][i] = nearest[k-1]
		}
	})
	return out
}
