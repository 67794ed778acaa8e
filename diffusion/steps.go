package diffusion

import (
	"fmt"
	"math"
	"slices"
)

// timesteps returns the timesteps that a sampler visits, in the order of the
// visit: strictly descending, all in [0, total).
func (c SamplerConfig) timesteps(total int) ([]int, error) {
	steps := c.Steps
	if steps == 0 {
		steps = total
	}
	if steps > total {
		return nil, fmt.Errorf("sample.steps is %d; it must be at most diffusion.timesteps (%d)", steps, total)
	}
	var list []int // ascending
	switch c.Spacing {
	case SpacingLinear:
		for i := range steps {
			list = append(list, i*total/steps)
		}
	case SpacingLeading:
		for i := range steps {
			list = append(list, i*(total/steps)+c.StepsOffset)
		}
	case SpacingTrailing:
		for i := steps - 1; i >= 0; i-- {
			// Half to even, as NumPy rounds.
			t := math.RoundToEven(float64(total) - float64(float64(i)*(float64(total)/float64(steps))))
			list = append(list, int(t)-1)
		}
	case SpacingQuadratic:
		for _, q := range linspace(0, math.Sqrt(0.8*float64(total)), steps) {
			list = append(list, int(float64(q*q))+1)
		}
		list = slices.Compact(list)
	case SpacingPaper:
		for t := 0; t < total; t += total / steps {
			list = append(list, t+1)
		}
	}
	if last := list[len(list)-1]; last >= total {
		if c.StepsOffset > 0 {
			return nil, fmt.Errorf("StepsOffset is %d; with %d steps it reaches timestep %d, and the last is %d (diffusion.timesteps - 1)", c.StepsOffset, steps, last, total-1)
		}
		return nil, fmt.Errorf("sample.steps is %d; the %s spacing then reaches timestep %d, and the last is %d (diffusion.timesteps - 1): take fewer steps, or sample.spacing %s", steps, c.Spacing, last, total-1, SpacingLinear)
	}
	slices.Reverse(list)
	return list, nil
}
