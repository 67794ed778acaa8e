package gradcheck

import (
	"fmt"
	"math"

	"github.com/agrdist/agrdist/rng"
)

// Loss computes a scalar from parameters that it reads where they lie.
type Loss func() (float64, error)

// Directional compares the derivative of loss along a random direction d of the
// values with the gradient's <grad, d>, and returns an error where the two differ by
// more than tolerance x (|<grad,d>| + floor). The derivative is the five-point
// quotient with the given step, of error O(step^4). The values are as before when
// it returns.
func Directional(loss Loss, values, grad []float64, step, tolerance, floor float64, seed uint64) error {
	if len(values) != len(grad) {
		panic(fmt.Sprintf("gradcheck: %d values, %d gradients", len(values), len(grad)))
	}
	direction := make([]float32, len(values))
	rng.New(seed, rng.StreamInit).Normal(direction, 0)
	before := append([]float64(nil), values...)
	defer copy(values, before)
	analytic, size := 0.0, 0.0
	for i, d := range direction {
		analytic += float64(d) * grad[i]
		size += float64(d) * float64(d)
	}
	size = math.Sqrt(size)
	analytic /= size
	at := func(h float64) (float64, error) {
		for i, d := range direction {
			values[i] = before[i] + h*float64(d)/size
		}
		return loss()
	}
	numeric := 0.0
	for _, p := range []struct{ at, weight float64 }{{-2, 1}, {-1, -8}, {1, 8}, {2, -1}} {
		l, err := at(p.at * step)
		if err != nil {
			return err
		}
		numeric += p.weight * l / (12 * step)
	}
	if diff := math.Abs(numeric - analytic); !(diff <= tolerance*(math.Abs(analytic)+floor)) {
		return fmt.Errorf("gradcheck: derivative %.10g by differences, %.10g by the gradient", numeric, analytic)
	}
	return nil
}
