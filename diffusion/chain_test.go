package diffusion

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/rng"
)

// slices of the host that a chain works on as a device would.
type hostChain struct {
	p         predictorFunc
	x, a, b   []float32
	ids       []uint64
	calls     int
	fail, bad int // the call that fails, the call whose output is infinite; 0: none
	waits     []int
}

func (c *hostChain) Begin(x []float32) error {
	c.x, c.a, c.b = slices.Clone(x), make([]float32, len(x)), make([]float32, len(x))
	return nil
}

func (c *hostChain) Advance(s Step) error {
	c.calls++
	if c.calls == c.fail {
		return errBroken
	}
	out, z := make([]float32, len(c.x)), make([]float32, len(c.x))
	per := len(c.x) / len(c.ids)
	t := make([]int64, len(c.ids))
	for i, id := range c.ids {
		t[i] = int64(s.T)
		if s.Sigma > 0 {
			rng.New(s.Seed, s.Stream).Normal(z[i*per:(i+1)*per], id)
		}
	}
	if err := c.p.Predict(out, c.x, t); err != nil {
		return err
	}
	if c.calls == c.bad {
		out[per] = float32(math.Inf(1))
	}
	for i := range c.x {
		x, o, a, b := float64(c.x[i]), float64(out[i]), float64(c.a[i]), float64(c.b[i])
		x0 := float64(s.XX*x) + float64(s.XO*o)
		if s.Clip {
			x0 = min(max(x0, -1), 1)
		}
		next := float64(s.KX0*x0) + float64(s.KXT*x)
		next += float64(s.KOut*o) + float64(s.Sigma*float64(z[i])) + (float64(s.KA*a) + float64(s.KB*b))
		if s.Keeps {
			c.a[i], c.b[i] = float32(x), float32(float64(s.BX*x)+float64(s.B0*x0))
		}
		if o-o != 0 {
			next = math.NaN()
		}
		c.x[i] = float32(next)
	}
	return nil
}

func (c *hostChain) Finite() (int, error) {
	c.waits = append(c.waits, c.calls)
	at := slices.IndexFunc(c.x, func(v float32) bool { return v != v })
	if at < 0 {
		return -1, nil
	}
	return at / (len(c.x) / len(c.ids)), nil
}

func (c *hostChain) End(x []float32) error {
	copy(x, c.x)
	return nil
}

var errBroken = errors.New("broken")

// A chain gets the coefficients with which Sample computes: the same images.
func TestSampleChain(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	ids := []uint64{4, 9}
	for _, method := range []string{DDPM, DDIM, DPMSolver, Heun} {
		for _, clip := range []string{ClipBefore, ClipAfter, ClipNone} {
			config := DefaultSamplerConfig()
			config.Method, config.Clip, config.Steps, config.Eta = method, clip, 10, 0.4
			sampler := mustSampler(t, s, config)
			want := make([]float32, 10)
			InitialNoise(want, ids, 3)
			got := slices.Clone(want)
			require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), want, ids, 3, nil))
			c := &hostChain{p: waves, ids: ids}
			var steps []int
			require.NoError(t, sampler.SampleChain(t.Context(), c, got, ids, 3, func(done, _ int) { steps = append(steps, done) }))
			require.Equal(t, want, got, "%s, %s", method, clip)
			n := len(sampler.Timesteps())
			require.Len(t, steps, n)
			require.Equal(t, n, c.waits[len(c.waits)-1], "the last step is looked at")
			require.LessOrEqual(t, c.waits[0], chainAhead)
		}
	}
}

func TestSampleChainFails(t *testing.T) {
	sampler := mustSampler(t, mustSchedule(t, Linear, 100), DefaultSamplerConfig()) // 50 steps
	x, ids := make([]float32, 10), []uint64{4, 9}
	err := sampler.SampleChain(t.Context(), &hostChain{p: waves, ids: ids, fail: 3}, x, ids, 3, nil)
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "timestep 94 (step 3 of 50)")
	err = sampler.SampleChain(t.Context(), &hostChain{p: waves, ids: ids, bad: 12}, x, ids, 3, nil)
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, "(steps 9 to 16 of 50), image 9")
	ctx, cancel := context.WithCancelCause(t.Context())
	err = sampler.SampleChain(ctx, &hostChain{p: waves, ids: ids}, x, ids, 3, func(done, _ int) {
		if done == 4 {
			cancel(errBroken)
		}
	})
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "after 4 of 50 steps")
}
