package tensortest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The gradients' formulas against central differences of the forward formulas.
func TestReferencesAgainstFiniteDifferences(t *testing.T) {
	checked := map[string]bool{}
	for _, c := range cases() {
		if c.numeric == nil {
			continue
		}
		want, got := c.reference(), c.numeric(c.float64s())
		require.Len(t, got, len(want), c.name)
		for i := range want {
			require.Len(t, got[i], len(want[i]), c.name)
			for j, w := range want[i] {
				if !(math.Abs(w-got[i][j]) <= 1e-6*(1+math.Abs(w))) {
					require.FailNow(t, "formula and differences disagree", "%s: output %d, element %d: %v and %v",
						c.name, i, j, w, got[i][j])
				}
			}
		}
		for k := range c.name {
			if c.name[k] == '/' {
				checked[c.name[:k]] = true
				break
			}
		}
	}
	for _, op := range []string{
		"SiLUGrad", "Conv2DInputGrad", "Conv2DWeightGrad", "GroupNormGrad", "ScaleShiftGrad", "SoftmaxGrad", "GroupNormSiLUGrad", "AttentionGrad",
	} {
		require.True(t, checked[op], "%s has no case small enough for finite differences", op)
	}
}

func TestUlps(t *testing.T) {
	require.Equal(t, 0, ulps(0, float32(math.Copysign(0, -1))))
	require.Equal(t, 1, ulps(1, math.Nextafter32(1, 2)))
	require.Equal(t, 2, ulps(math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32))
	require.Equal(t, math.MaxInt, ulps(float32(math.NaN()), 1))
}
