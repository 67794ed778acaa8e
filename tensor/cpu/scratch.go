package cpu

import "github.com/agrdist/agrdist/tensor/cpu/internal/kernel"

// scratch is the backend's working memory. It grows to the largest operation and
// stays.
type scratch struct {
	panels, image, bias floats
	sums, norm          floats
	points, slots       floats    // of winograd
	rounded             [2]floats // operands of winograd
	zeros               floats
	arow, crow, irow    []int
	taps, shift         []int
	partial             []float64
}

// floats is scratch that kernels may read Slack past.
type floats struct{ data []float32 }

func (f *floats) get(n int) []float32 {
	if cap(f.data) < n+kernel.Slack {
		f.data = aligned[float32](n)
	}
	return f.data[:n]
}

// grow returns s with room for n elements, reallocated only when too small.
func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}
