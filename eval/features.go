package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrTooFew is wrapped where there are fewer images than a metric needs.
var ErrTooFew = errors.New("too few images")

// ErrNotFinite is wrapped where a feature or a result is NaN or infinite.
var ErrNotFinite = errors.New("not finite")

// Features is the feature vectors of a set of images: row-major [Len, Dim].
type Features struct {
	Dim  int
	Data []float32
}

// Len is the number of images.
func (f Features) Len() int { return len(f.Data) / max(1, f.Dim) }

// Row is the vector of image i.
func (f Features) Row(i int) []float32 { return f.Data[i*f.Dim : (i+1)*f.Dim] }

// check reports features that no metric can be computed from.
func (f Features) check(name string) error {
	if f.Dim < 1 || len(f.Data)%f.Dim != 0 {
		return fmt.Errorf("eval: %s features: %d values are not rows of %d", name, len(f.Data), f.Dim)
	}
	if i := slices.IndexFunc(f.Data, func(v float32) bool { return v-v != 0 }); i >= 0 {
		return fmt.Errorf("eval: %w: feature %d of %s image %d is %v", ErrNotFinite, i%f.Dim, name, i/f.Dim, f.Data[i])
	}
	return nil
}

// checkPair checks the generated and the reference features of a metric.
func checkPair(generated, reference Features) error {
	if err := errors.Join(generated.check("generated"), reference.check("reference")); err != nil {
		return err
	}
	if generated.Dim != reference.Dim {
		return fmt.Errorf("eval: generated features have %d values, reference features %d: they come from different networks",
			generated.Dim, reference.Dim)
	}
	return nil
}

// meanStd is the mean and the population standard deviation.
func meanStd(x []float64) (mean, std float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		std += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(std / float64(len(x)))
}
