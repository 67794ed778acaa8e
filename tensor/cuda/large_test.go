//go:build cuda

package cuda_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/tensor"
)

// largeCases reach what the conformance suite's small shapes do not: slabs that do
// and do not fit the registers at the sizes of real networks, sums of several
// blocks, attention of every kind of head.
func largeCases() []mixedCase {
	var all []mixedCase
	for _, d := range [][5]int{
		{1, 32, 32, 128, 32}, {2, 16, 16, 384, 32}, {3, 4, 4, 512, 32}, // a CIFAR-10 network's
		{1, 48, 48, 32, 8}, {1, 64, 64, 8, 2}, {1, 8, 8, 512, 1}, {1, 32, 32, 36, 4}, // read twice
		{1, 33, 31, 21, 7}, {1, 4, 4, 600, 600}, // no vectors
	} {
		all = append(all, mixedNorms(d[0], d[1], d[2], d[3], d[4])...)
	}
	for _, d := range [][4]int{{1, 40, 40, 3}, {1, 30, 30, 130}, {2, 30, 30, 64}, {1, 1, 2000, 37}} {
		x, sum := act(d[:]...), func(be tensor.Backend, in, out []tensor.Tensor) { be.SumChannels(out[0], in[0]) }
		all = append(all,
			mixedCase{name: fmt.Sprintf("SumChannels/all/%v", d), in: []operand{x}, out: []operand{param(d[3])}, run: sum},
			mixedCase{name: fmt.Sprintf("SumChannels/sample/%v", d), in: []operand{x}, out: []operand{param(d[0], d[3])}, run: sum})
	}
	for _, d := range [][4]int{
		{1, 256, 8, 1}, {1, 100, 48, 6}, {1, 16, 512, 1}, {2, 65, 128, 2}, {1, 130, 64, 1}, {3, 33, 80, 2}, {1, 300, 32, 1}, {1, 70, 60, 3},
	} {
		all = append(all, attentionCase(d[0], d[1], d[2], d[3]))
	}
	return all
}

// In F32 every large case is float64's to the rounding of sums.
func TestLargeShapes(t *testing.T) {
	if race {
		t.Skip("arithmetic is no race")
	}
	be := open(t)
	for _, c := range largeCases() {
		t.Run(c.name, func(t *testing.T) {
			c.inF32()
			want, got := c.results(t, gradcheck.Fused{}), c.results(t, be)
			require.Equal(t, got, c.results(t, be), "two calls")
			for i := range want {
				requireElements(t, want[i], got[i], 2e-5, 0, "output %d", i)
			}
		})
	}
}

// Scores that do not fit their bound are made some samples at a time, with the
// same bits.
func TestAttentionInParts(t *testing.T) {
	be, parts := open(t), open(t)
	parts.SetScoreBytes(3 * 20 * 20 * 4)
	for _, heads := range []int{1, 2} {
		c := attentionCase(5, 20, 80, heads)
		c.inF32()
		require.Equal(t, c.results(t, be), c.results(t, parts), "%d heads", heads)
	}
}

// inF32 makes every operand F32.
func (c *mixedCase) inF32() {
	for _, list := range [][]operand{c.in, c.out} {
		for i := range list {
			list[i].activation = false
		}
	}
}

// requireElements allows an error of tol of the largest magnitude and relative of the
// element's own.
func requireElements(t *testing.T, want, got []float32, tol, relative float64, format string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want))
	largest := 0.0
	for _, v := range want {
		largest = max(largest, math.Abs(float64(v)))
	}
	for j, v := range want {
		if d := math.Abs(float64(v) - float64(got[j])); !(d <= tol*largest+relative*math.Abs(float64(v))) {
			require.FailNow(t, "wrong value", "%s, element %d of %d: got %v, want %v, largest %v",
				fmt.Sprintf(format, args...), j, len(want), got[j], v, largest)
		}
	}
}
