package nn

import (
	"math"

	"github.com/agrdist/agrdist/rng"
)

// XavierUniform fills a weight in PyTorch's layout with uniform values in
// [-b, b), b = gain sqrt(6/(fan_in + fan_out)) (Glorot & Bengio, 2010, equation
// 16); a convolution's fans count its taps. The values are those of the seed's
// StreamInit sequence with the given index, in PyTorch's order of elements.
func (q Param) XavierUniform(dst []float32, gain float64, seed uint64, index int) {
	out, in, taps := q.matrix()
	bound := gain * math.Sqrt(6/float64((out+in)*taps))
	rng.New(seed, rng.StreamInit.With(index)).Uniform(dst, 0)
	for i, u := range dst {
		dst[i] = float32((2*float64(u) - 1) * bound)
	}
}
