package optim

import "fmt"

// EMAConfig describes an exponential moving average of the parameters.
type EMAConfig struct {
	Decay  float64 // 0 <= Decay < 1; the average spans about 1/(1-Decay) updates
	Warmup bool    // min(Decay, (1+t)/(10+t)) at update t
}

// Validate reports a decay out of range. The error wraps ErrConfig.
func (c EMAConfig) Validate() error {
	if !(c.Decay >= 0 && c.Decay < 1) {
		return fmt.Errorf("%w: decay of the EMA is %v, want 0 <= decay < 1", ErrConfig, c.Decay)
	}
	return nil
}

// At returns the decay of update t, counted from 1 as Update.T is.
func (c EMAConfig) At(t int64) float64 {
	if !c.Warmup {
		return c.Decay
	}
	return min(c.Decay, float64(1+t)/float64(10+t))
}

// EMA moves avg towards x: avg = avg + (1-decay)(x - avg). In this form avg is
// at rest exactly where it equals x, which decay avg + (1-decay) x in float32 is
// not (with decay 0.9999 its fixed point is off by up to 3e-4 of x). Decay 0 is
// a copy. len(x) >= len(avg).
func EMA(avg, x []float32, decay float64) {
	x = x[:len(avg)]
	if decay == 0 {
		copy(avg, x)
		return
	}
	k := float32(1 - decay)
	for i := range avg {
		avg[i] += float32(k * (x[i] - avg[i]))
	}
}
