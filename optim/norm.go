package optim

import "math"

// Lanes is the number of interleaved partial sums of Norms.
const Lanes = 16

// Norms returns the L1 norm and the squared L2 norm of x in float64. Element i
// is added to lane i mod Lanes, in order; the lanes are then added pairwise
// (l with l+8, l+4, l+2, l+1). That order is part of the contract: vector
// kernels reproduce it bit for bit. The sums cannot overflow, so sq is finite
// exactly when every element is.
func Norms(x []float32) (l1, sq float64) {
	var abs, squares [Lanes]float64
	AddNorms(&abs, &squares, x)
	return SumLanes(&abs), SumLanes(&squares)
}

// AddNorms adds |x[i]| and x[i]^2 to lane i mod Lanes of abs and squares.
func AddNorms(abs, squares *[Lanes]float64, x []float32) {
	whole := len(x) &^ (Lanes - 1)
	// Four lanes at a time, so that their sums stay in registers.
	for lane := 0; lane < Lanes; lane += 4 {
		a := abs[lane : lane+4 : lane+4]
		s := squares[lane : lane+4 : lane+4]
		a0, a1, a2, a3 := a[0], a[1], a[2], a[3]
		s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
		for i := lane; i < whole; i += Lanes {
			y := x[i : i+4 : i+4]
			y0, y1, y2, y3 := float64(y[0]), float64(y[1]), float64(y[2]), float64(y[3])
			a0 += math.Abs(y0)
			a1 += math.Abs(y1)
			a2 += math.Abs(y2)
			a3 += math.Abs(y3)
			// A float32 squared is exact in float64, so fused or not is one.
			s0 += y0 * y0
			s1 += y1 * y1
			s2 += y2 * y2
			s3 += y3 * y3
		}
		a[0], a[1], a[2], a[3] = a0, a1, a2, a3
		s[0], s[1], s[2], s[3] = s0, s1, s2, s3
	}
	for i, v := range x[whole:] {
		y := float64(v)
		abs[i] += math.Abs(y)
		squares[i] += y * y
	}
}

// SumLanes adds the lanes pairwise.
func SumLanes(lanes *[Lanes]float64) float64 {
	s := *lanes
	for width := Lanes / 2; width > 0; width /= 2 {
		for i := range width {
			s[i] += s[i+width]
		}
	}
	return s[0]
}

// Meter measures flat gradients: the L1 norm of each segment and the L2 norm of
// all, in one read. Sums run over Blocks in order, whatever the Runner.
type Meter struct {
	blocks []Block
	runner Runner
	kernel func(x []float32) (l1, sq float64)

	l1, sq  []float64 // by block
	segment []float64 // L1 norm by segment
	squares []float64 // squared L2 norm by segment
	x       []float32
	visit   func(i int)
}

// NewMeter returns a meter for vectors made of segments. kernel is a faster
// twin of Norms, or nil.
func NewMeter(segments []Segment, r Runner, kernel func(x []float32) (l1, sq float64)) *Meter {
	if kernel == nil {
		kernel = Norms
	}
	blocks := Blocks(segments)
	m := &Meter{
		blocks: blocks, runner: r, kernel: kernel,
		l1: make([]float64, len(blocks)), sq: make([]float64, len(blocks)),
		segment: make([]float64, len(segments)), squares: make([]float64, len(segments)),
	}
	m.visit = func(i int) {
		b := m.blocks[i]
		m.l1[i], m.sq[i] = m.kernel(m.x[b.Lo:b.Hi])
	}
	return m
}

// Measure reads x and returns its L2 norm over all segments, and whether every
// element is finite. It allocates nothing.
func (m *Meter) Measure(x []float32) (norm float64, finite bool) {
	m.x = x
	Run(m.runner, len(m.blocks), m.visit)
	m.x = nil
	clear(m.segment)
	clear(m.squares)
	var sq float64
	for i, b := range m.blocks {
		m.segment[b.Segment] += m.l1[i]
		m.squares[b.Segment] += m.sq[i]
		sq += m.sq[i]
	}
	return math.Sqrt(sq), !math.IsNaN(sq) && !math.IsInf(sq, 0)
}

// L1 returns, by segment, the sum of |x| that the last Measure found. The slice
// is the meter's own.
func (m *Meter) L1() []float64 { return m.segment }

// Squares returns, by segment, the sum of x^2 that the last Measure found. The slice is
// the meter's own.
func (m *Meter) Squares() []float64 { return m.squares }

// ClipScale is the factor that brings a gradient of the given norm to at most
// maxNorm: min(1, maxNorm/(norm + 1e-6)), torch.nn.utils.clip_grad_norm_. A
// maxNorm of 0 means no clipping, factor 1.
func ClipScale(norm, maxNorm float64) float64 {
	if maxNorm == 0 {
		return 1
	}
	return min(1, maxNorm/(norm+1e-6))
}
