package optim_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/optim"
)

// build makes the optimizer of the type that name has, of no elements.
func build[T optim.Optimizer](t *testing.T, name string, change func(c *optim.Config)) T {
	t.Helper()
	c, err := optim.DefaultConfig(name)
	require.NoError(t, err)
	change(&c)
	o, err := optim.New(c, nil, 0, nil)
	require.NoError(t, err)
	return o.(T)
}

func unchanged(*optim.Config) {}

// Decay rates and learning rate are powers of two here, so that the formulas of
// the docstrings are exact but for the last rounding.
func TestScalars(t *testing.T) {
	const lr = 0.125
	root := func(x float64) float32 { return float32(1 / math.Sqrt(x)) }
	halves := func(c *optim.Config) { c.Beta1, c.Beta2, c.Eps, c.WeightDecay = 0.5, 0.75, 0.25, 0.5 }

	adam := optim.AdamStep{
		Beta1: 0.5, Rest1: 0.5, Beta2: 0.75, Rest2: 0.25, Eps: 0.25,
		Root: root(1 - 0.75*0.75), Step: float32(lr / 0.75), Decay: 0.5,
	}
	require.Equal(t, adam, build[*optim.Adam](t, "adam", halves).Scalars(lr, 2))
	adam.Decay = lr * 0.5
	require.Equal(t, adam, build[*optim.AdamW](t, "adamw", halves).Scalars(lr, 2))

	adan := func(c *optim.Config) { halves(c); c.Beta3 = 0.5 }
	want := optim.AdanStep{
		Beta1: 0.5, Rest1: 0.5, Beta2: 0.75, Rest2: 0.25, Beta3: 0.5, Rest3: 0.5, Eps: 0.25,
		RootN: root(0.75), StepM: float32(lr / 0.75), StepV: float32(lr * 0.75 / 0.4375),
		DecayAfter: float32(0.0625 / 1.0625),
	}
	require.Equal(t, want, build[*optim.Adan](t, "adan", adan).Scalars(lr, 2))
	want.DecayBefore, want.DecayAfter = 0.0625, 0
	noProx := build[*optim.Adan](t, "adan", func(c *optim.Config) { adan(c); c.NoProx = true })
	require.Equal(t, want, noProx.Scalars(lr, 2))
	require.True(t, noProx.Scalars(lr, 1).First)

	rmsprop := build[*optim.RMSprop](t, "rmsprop", func(c *optim.Config) {
		c.Alpha, c.Eps, c.WeightDecay, c.Momentum, c.Centered = 0.75, 0.25, 0.5, 0.5, true
	})
	require.Equal(t, optim.RMSpropStep{
		Alpha: 0.75, Rest: 0.25, Eps: 0.25, Step: lr, Decay: 0.5, Momentum: 0.5, Centered: true, Buffered: true,
	}, rmsprop.Scalars(lr, 2))
	plain := build[*optim.RMSprop](t, "rmsprop", unchanged).Scalars(lr, 1)
	require.False(t, plain.Centered || plain.Buffered)

	sgdm := build[*optim.SGDM](t, "sgdm", func(c *optim.Config) {
		c.Momentum, c.Dampening, c.WeightDecay = 0.5, 0.25, 0.5
	})
	step := optim.SGDMStep{Keep: 0.5, Take: 0.75, Step: lr, Decay: 0.5, Momentum: 0.5, Buffered: true}
	require.Equal(t, step, sgdm.Scalars(lr, 2))
	step.Keep, step.Take = 0, 1 // there is no history
	require.Equal(t, step, sgdm.Scalars(lr, 1))
	nesterov := build[*optim.SGDM](t, "sgdm", func(c *optim.Config) { c.Nesterov = true })
	require.True(t, nesterov.Scalars(lr, 2).Nesterov)
	require.False(t, build[*optim.SGDM](t, "sgdm", func(c *optim.Config) { c.Momentum = 0 }).Scalars(lr, 2).Buffered)

	lion := build[*optim.Lion](t, "lion", func(c *optim.Config) { c.Beta1, c.Beta2, c.WeightDecay = 0.5, 0.75, 0.5 })
	require.Equal(t, optim.LionStep{
		Beta1: 0.5, Rest1: 0.5, Beta2: 0.75, Rest2: 0.25, Step: lr, Decay: lr * 0.5,
	}, lion.Scalars(lr, 2))
}

func TestScalarsOfACProp(t *testing.T) {
	const lr = 0.125
	with := func(beta2 float64, rectify bool) *optim.ACProp {
		return build[*optim.ACProp](t, "acprop", func(c *optim.Config) {
			c.Beta1, c.Beta2, c.Eps, c.WeightDecay, c.Rectify = 0.5, beta2, 0.25, 0.5, rectify
		})
	}
	first := optim.ACPropStep{
		Beta1: 0.5, Rest1: 0.5, Beta2: 0.75, Rest2: 0.25, Eps: 0.25,
		Root: 1, Step: lr / 0.5, Decay: lr * 0.5, Momentum: true,
	}
	require.Equal(t, first, with(0.75, false).Scalars(lr, 1))
	require.Equal(t, first, with(0.75, true).Scalars(lr, 1))

	third := first
	third.Floor, third.Root, third.Step, third.Momentum = 0.25, float32(1/math.Sqrt(1-0.75*0.75)), lr, false
	require.Equal(t, third, with(0.75, false).Scalars(lr, 3), "the second moment of the two updates before")

	// Rectified with b2 = 15/16: Ninf = 31, and N passes 5 at the 6th update.
	fifth := first
	fifth.Beta2, fifth.Rest2, fifth.Floor, fifth.Step = 0.9375, 0.0625, 0.25, float32(lr/(1-0.03125))
	require.Equal(t, fifth, with(0.9375, true).Scalars(lr, 5), "undefined: SGD with momentum")
	p := math.Pow(0.9375, 6)
	n := 31 - 12*p/(1-p)
	r := math.Sqrt((1 - p) * (n - 4) / 27 * (n - 2) / n * 31 / 29)
	sixth := with(0.9375, true).Scalars(lr, 6)
	require.InEpsilon(t, lr*r, float64(sixth.Step), 1e-6)
	fifth.Step, fifth.Momentum = sixth.Step, false
	require.Equal(t, fifth, sixth)
}
