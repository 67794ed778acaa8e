package optim

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Schedule is the shape of the learning rate after the warm-up.
type Schedule string

// Schedules.
const (
	Constant Schedule = "constant" // stays at Base
	Linear   Schedule = "linear"   // falls to Min in a straight line
	Cosine   Schedule = "cosine"   // falls to Min along half a cosine (Loshchilov & Hutter, arXiv 1608.03983, eq. 5)
)

// LRConfig is the learning rate as a pure function of the global step, which
// is counted from 0: nothing to save, nothing to restore.
type LRConfig struct {
	Base        float64
	WarmupSteps int64    // W: the rate is Base step/W while step < W, so the FIRST update has rate 0
	Schedule    Schedule // "" is constant
	TotalSteps  int64    // where linear and cosine reach Min
	Min         float64  // constant has no use for it
}

// Validate reports every bad field, joined, with key, value and range or
// choices. All wrap ErrConfig.
func (c LRConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if !(c.Base >= 0) || math.IsInf(c.Base, 0) {
		bad("base learning rate is %v, want 0 or more", c.Base)
	}
	if c.WarmupSteps < 0 {
		bad("warmup_steps is %d, want 0 or more", c.WarmupSteps)
	}
	switch c.Schedule {
	case Constant, "":
	case Linear, Cosine:
		if c.TotalSteps <= c.WarmupSteps {
			bad("total_steps is %d, want more than warmup_steps, %d, for schedule %s", c.TotalSteps, c.WarmupSteps, c.Schedule)
		}
		if !(c.Min >= 0 && c.Min <= c.Base) {
			bad("min learning rate is %v, want 0 to base, %v", c.Min, c.Base)
		}
	default:
		bad("schedule is %q, want one of %s", string(c.Schedule),
			strings.Join([]string{string(Constant), string(Linear), string(Cosine)}, ", "))
	}
	return errors.Join(errs...)
}

// At returns the learning rate of the update at the given step, step >= 0. With
// W = WarmupSteps it is Base min(step, W)/W up to step W, the rule of the AGR
// authors' script (a LambdaLR stepped after the update). From there linear and
// cosine depend on p = (step - W)/(TotalSteps - W), held at 1 after the end:
//
//	linear  Base + (Min - Base) p
//	cosine  Min + (Base - Min)(1 + cos(pi p))/2
func (c LRConfig) At(step int64) float64 {
	if step < c.WarmupSteps {
		return c.Base * float64(step) / float64(c.WarmupSteps)
	}
	if c.Schedule != Linear && c.Schedule != Cosine {
		return c.Base
	}
	if step >= c.TotalSteps {
		return c.Min
	}
	p := float64(step-c.WarmupSteps) / float64(c.TotalSteps-c.WarmupSteps)
	weight := 1 - p
	if c.Schedule == Cosine {
		half := cosHalfPi(p)
		weight = float64(half * half) // (1 + cos(pi p))/2 = cos^2(pi p/2)
	}
	return c.Min + float64((c.Base-c.Min)*weight)
}

// cosHalfPi is cos(pi x/2) for 0 <= x <= 1, by its Taylor series in y = pi x/2:
// the sum over k of (-y^2)^k/(2k)!, by Horner's rule. The first term left out is
// below 1e-18. math.Cos is left to the compiler's choice of fused operations on
// some architectures; this is not.
func cosHalfPi(x float64) float64 {
	y := float64(x * (math.Pi / 2))
	z := float64(y * y)
	sum := 1.0
	for k := 11; k > 0; k-- {
		sum = 1 - float64(float64(z*sum)/float64(2*k*(2*k-1)))
	}
	return sum
}
