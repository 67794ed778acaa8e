package diffusion

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// predictorFunc is a network given as a formula of one image.
type predictorFunc func(dst, x []float32, t int64)

func (f predictorFunc) Predict(dst, x []float32, t []int64) error {
	pixels := len(x) / len(t)
	for i, step := range t {
		f(dst[i*pixels:(i+1)*pixels], x[i*pixels:(i+1)*pixels], step)
	}
	return nil
}

// waves is the stand-in for a network of testdata/diffusers_golden.py.
func waves(dst, x []float32, t int64) {
	for j := range x {
		dst[j] = float32(0.3*float64(x[j]) + 0.9*math.Cos(0.01*float64(t)+float64(j)))
	}
}

func mustSampler(t *testing.T, s *Schedule, c SamplerConfig) *Sampler {
	t.Helper()
	sampler, err := NewSampler(s, c)
	require.NoError(t, err)
	return sampler
}

func mustSchedule(t *testing.T, kind string, total int) *Schedule {
	t.Helper()
	s, err := NewSchedule(kind, total)
	require.NoError(t, err)
	return s
}

func TestSamplersMatchDiffusers(t *testing.T) {
	golden := loadGolden(t)
	xT := make([]float32, len(golden.IDs)*golden.Pixels)
	InitialNoise(xT, golden.IDs, golden.Seed)
	require.Equal(t, golden.XT, xT)
	for _, g := range golden.Cases {
		s, c, err := DecodeSchedulerConfig(g.Config)
		require.NoError(t, err, "%s", g.Config)
		c.Steps, c.Eta = g.Steps, g.Eta
		sampler := mustSampler(t, s, c)
		require.Equal(t, g.Timesteps, sampler.Timesteps(), "%s", g.Config)
		x := append([]float32(nil), xT...)
		require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), x, golden.IDs, golden.Seed, nil))
		for i, want := range g.Images {
			// One float32 rounding a step here, none there.
			require.InDelta(t, want, x[i], 1e-5*max(1, math.Abs(float64(want))), "%s element %d", g.Config, i)
		}
	}
}

// With a predictor that knows x0, every DDIM step stays on the line from x0 to
// the noise: whatever the step list, the end is x0, exactly where abar ends at
// 1 and mixed with the last trace of noise where it ends at abar[0].
func TestDDIMWithAnOracleRecoversX0(t *testing.T) {
	s := mustSchedule(t, Cosine, 1000)
	x0 := []float32{-1, -0.5, 0, 0.25, 1}
	for _, p := range []Prediction{Epsilon, X0, V} {
		oracle := predictorFunc(func(dst, x []float32, step int64) {
			convert(dst, x, x0, X0, p, s, int(step))
		})
		for _, spacing := range []string{SpacingLinear, SpacingLeading, SpacingTrailing, SpacingQuadratic, SpacingPaper} {
			for _, clip := range []string{ClipBefore, ClipAfter, ClipNone} {
				c := DefaultSamplerConfig()
				c.Prediction, c.Spacing, c.Clip, c.Steps = p, spacing, clip, 20
				x := make([]float32, len(x0))
				InitialNoise(x, []uint64{3}, 5)
				require.NoError(t, mustSampler(t, s, c).Sample(t.Context(), oracle, x, []uint64{3}, 5, nil))
				tolerance := 1e-4
				if spacing == SpacingPaper || spacing == SpacingQuadratic {
					tolerance += 4 * math.Sqrt(1-s.AlphasCumprod[0])
				}
				require.InDeltaSlice(t, x0, x, tolerance, "%s %s %s", p, spacing, clip)
			}
		}
	}
}

// gaussianScore is the best possible epsilon for data N(mean, std^2).
func gaussianScore(s *Schedule, mean, std float64) predictorFunc {
	return func(dst, x []float32, step int64) {
		abar := s.AlphasCumprod[step]
		for i := range x {
			dst[i] = float32(math.Sqrt(1-abar) * (float64(x[i]) - math.Sqrt(abar)*mean) / (abar*std*std + 1 - abar))
		}
	}
}

func TestSamplersReproduceAGaussian(t *testing.T) {
	const images, pixels = 8, 1024
	s := mustSchedule(t, Linear, 200)
	ids := make([]uint64, images)
	for i := range ids {
		ids[i] = uint64(100 + i)
	}
	for _, c := range []struct {
		name      string
		config    SamplerConfig
		mean, std float64
	}{
		// fixedlarge is the right variance for data of variance 1, fixedsmall for
		// data without any (DDPM, section 3.2); in between both err by O(1/T).
		{"fixedlarge", SamplerConfig{Method: DDPM, Variance: FixedLarge}, 0.4, 1},
		{"fixedsmall", SamplerConfig{Method: DDPM, Variance: FixedSmall}, -0.7, 0.05},
		{"fixedlarge, half", SamplerConfig{Method: DDPM, Variance: FixedLarge}, 0.2, 0.5},
		{"strided", SamplerConfig{Method: DDPM, Variance: FixedLarge, Steps: 100}, 0.4, 1},
		{"ddim", SamplerConfig{Method: DDIM, Steps: 100}, 0.3, 0.5},
		{"ddim, eta", SamplerConfig{Method: DDIM, Steps: 100, Eta: 0.5}, 0.3, 0.5},
	} {
		c.config.Spacing, c.config.Clip, c.config.Prediction = SpacingLinear, ClipNone, Epsilon
		x := make([]float32, images*pixels)
		InitialNoise(x, ids, 9)
		require.NoError(t, mustSampler(t, s, c.config).Sample(t.Context(), gaussianScore(s, c.mean, c.std), x, ids, 9, nil))
		mean, variance := moments(x)
		require.InDelta(t, c.mean, mean, 0.02, c.name)
		require.InDelta(t, c.std, math.Sqrt(variance), 0.02, c.name)
	}
}

func TestDDIMWithEtaOneIsDDPMFixedSmall(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	ids := []uint64{1, 2}
	run := func(c SamplerConfig) []float32 {
		c.Steps, c.Spacing, c.Prediction = 100, SpacingLinear, Epsilon
		x := make([]float32, 16)
		InitialNoise(x, ids, 4)
		require.NoError(t, mustSampler(t, s, c).Sample(t.Context(), gaussianScore(s, 0.2, 0.4), x, ids, 4, nil))
		return x
	}
	ddpm := run(SamplerConfig{Method: DDPM, Variance: FixedSmall, Clip: ClipNone})
	ddim := run(SamplerConfig{Method: DDIM, Eta: 1, Clip: ClipNone})
	require.InDeltaSlice(t, ddpm, ddim, 2e-5)
	large := run(SamplerConfig{Method: DDPM, Variance: FixedLarge, Clip: ClipNone})
	require.NotEqual(t, ddpm, large)
}

// The bits of an image depend on its id, not on who is generated beside it.
func TestImagesDoNotDependOnTheBatch(t *testing.T) {
	s := mustSchedule(t, Cosine, 50)
	const pixels = 5
	for _, c := range []SamplerConfig{
		{Method: DDPM, Variance: FixedLarge, Clip: ClipBefore},
		{Method: DDIM, Eta: 0.3, Steps: 10, Clip: ClipAfter},
	} {
		c.Spacing, c.Prediction = SpacingLinear, V
		sampler := mustSampler(t, s, c)
		generate := func(ids ...uint64) []float32 {
			x := make([]float32, len(ids)*pixels)
			InitialNoise(x, ids, 1)
			require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), x, ids, 1, nil))
			return x
		}
		all := generate(0, 1, 2, 3, 4)
		require.Equal(t, all[2*pixels:3*pixels], generate(2))
		require.Equal(t, all[3*pixels:], generate(3, 4))
		require.NotEqual(t, all[:pixels], all[pixels:2*pixels])
	}
}

func TestClipping(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	far := predictorFunc(func(dst, _ []float32, _ int64) {
		for i := range dst {
			dst[i] = 3 - 6*float32(i%2)
		}
	})
	result := map[string][]float32{}
	for _, clip := range []string{ClipBefore, ClipAfter, ClipNone} {
		c := SamplerConfig{Method: DDPM, Variance: FixedSmall, Spacing: SpacingLinear, Clip: clip, Prediction: X0}
		x := make([]float32, 4)
		InitialNoise(x, []uint64{0}, 0)
		require.NoError(t, mustSampler(t, s, c).Sample(t.Context(), far, x, []uint64{0}, 0, nil))
		result[clip] = x
	}
	require.Equal(t, []float32{1, -1, 1, -1}, result[ClipBefore])
	require.Equal(t, []float32{1, -1, 1, -1}, result[ClipAfter])
	require.InDeltaSlice(t, []float32{3, -3, 3, -3}, result[ClipNone], 1e-5)
}

func TestSampleStops(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	sampler := mustSampler(t, s, DefaultSamplerConfig())
	x := make([]float32, 4)

	cause := errors.New("the operator")
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	err := sampler.Sample(ctx, predictorFunc(waves), x, []uint64{0}, 0, func(done, total int) {
		calls++
		require.Equal(t, calls, done)
		require.Equal(t, 50, total)
		if done == 3 {
			cancel(cause)
		}
	})
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "after 3 of 50 steps")
	require.Equal(t, 3, calls)

	broken := errors.New("out of memory")
	err = sampler.Sample(t.Context(), failing{broken}, x, []uint64{0}, 0, nil)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "timestep 98")

	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		InitialNoise(x, []uint64{0, 5}, 0)
		err = sampler.Sample(t.Context(), predictorFunc(func(dst, x []float32, step int64) {
			waves(dst, x, step)
			if step == 90 {
				dst[1] = float32(bad)
			}
		}), x, []uint64{0, 5}, 0, nil)
		require.ErrorIs(t, err, ErrNotFinite)
		require.ErrorContains(t, err, "timestep 90")
	}
	require.Panics(t, func() { InitialNoise(x, []uint64{1, 2, 3}, 0) })
	require.Panics(t, func() { InitialNoise(x, nil, 0) })
}

type failing struct{ err error }

func (f failing) Predict(_, _ []float32, _ []int64) error { return f.err }

func TestSampleDoesNotAllocatePerStep(t *testing.T) {
	s := mustSchedule(t, Linear, 1000)
	allocations := func(steps int) int {
		c := DefaultSamplerConfig()
		c.Steps, c.Eta = steps, 1
		sampler := mustSampler(t, s, c)
		x, ids := make([]float32, 64), []uint64{1, 2}
		var p Predictor = predictorFunc(waves)
		return int(testing.AllocsPerRun(5, func() {
			InitialNoise(x, ids, 0)
			require.NoError(t, sampler.Sample(context.Background(), p, x, ids, 0, nil))
		}))
	}
	require.Equal(t, allocations(2), allocations(200))
}

func TestStepLists(t *testing.T) {
	for _, c := range []struct {
		spacing              string
		total, steps, offset int
		want                 []int
	}{
		{SpacingLinear, 1000, 4, 0, []int{750, 500, 250, 0}},
		{SpacingLinear, 10, 4, 0, []int{7, 5, 2, 0}},
		{SpacingLeading, 10, 4, 0, []int{6, 4, 2, 0}},
		{SpacingLeading, 1000, 4, 1, []int{751, 501, 251, 1}},
		{SpacingTrailing, 1000, 4, 0, []int{999, 749, 499, 249}},
		{SpacingTrailing, 1000, 3, 0, []int{999, 666, 332}},
		{SpacingTrailing, 10, 4, 0, []int{9, 7, 4, 1}}, // round(7.5) is 8, round(2.5) is 2
		{SpacingPaper, 1000, 10, 0, []int{901, 801, 701, 601, 501, 401, 301, 201, 101, 1}},
		{SpacingPaper, 1000, 3, 0, []int{1000, 667, 334, 1}}, // refused below: 1000 is out of range
		{SpacingPaper, 100, 30, 0, []int{100}},               // likewise
		{SpacingQuadratic, 1000, 5, 0, []int{801, 451, 201, 51, 1}},
		{SpacingQuadratic, 10, 8, 0, []int{9, 6, 5, 3, 2, 1}}, // 1, 1, 1, 2, 3, 5, 6, 9
		{SpacingLinear, 3, 0, 0, []int{2, 1, 0}},
		{SpacingTrailing, 3, 0, 0, []int{2, 1, 0}},
	} {
		config := DefaultSamplerConfig()
		config.Spacing, config.Steps, config.StepsOffset = c.spacing, c.steps, c.offset
		got, err := config.timesteps(c.total)
		if c.want[0] >= c.total {
			require.ErrorContains(t, err, "sample.steps is", c.spacing)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%s %d of %d", c.spacing, c.steps, c.total)
	}
}

func TestStepListsDescendWithinRange(t *testing.T) {
	for _, spacing := range []string{SpacingLinear, SpacingLeading, SpacingTrailing, SpacingQuadratic, SpacingPaper} {
		for total := 1; total <= 40; total++ {
			for steps := 1; steps <= total; steps++ {
				c := DefaultSamplerConfig()
				c.Spacing, c.Steps = spacing, steps
				list, err := c.timesteps(total)
				if err != nil {
					require.ErrorContains(t, err, "sample.steps is")
					require.Contains(t, []string{SpacingPaper, SpacingQuadratic}, spacing)
					continue
				}
				if spacing != SpacingPaper && spacing != SpacingQuadratic {
					require.Len(t, list, steps)
				}
				previous := total
				for _, step := range list {
					if step < 0 || step >= previous {
						require.Fail(t, "not descending within range", "%s %d of %d: %v", spacing, steps, total, list)
					}
					previous = step
				}
			}
		}
	}
}

func TestSamplerErrorsNameTheKey(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	for want, change := range map[string]func(*SamplerConfig){
		`sample.sampler is "euler"; choose one of ddpm, ddim`:                                    func(c *SamplerConfig) { c.Method = "euler" },
		`sample.spacing is "log"; choose one of linear, leading, trailing, quadratic, paper`:     func(c *SamplerConfig) { c.Spacing = "log" },
		`sample.clip is ""; choose one of before, after, none`:                                   func(c *SamplerConfig) { c.Clip = "" },
		`sample.variance is "learned"; choose one of fixedlarge, fixedsmall`:                     func(c *SamplerConfig) { c.Method, c.Variance = DDPM, "learned" },
		`FinalAlpha is "zero"; choose one of auto, one, first`:                                   func(c *SamplerConfig) { c.FinalAlpha = "zero" },
		`diffusion.prediction is "score"; choose one of epsilon, sample, v_prediction`:           func(c *SamplerConfig) { c.Prediction = "score" },
		"sample.eta is NaN; it must be 0 to 1":                                                   func(c *SamplerConfig) { c.Eta = math.NaN() },
		"sample.eta is 1.5; it must be 0 to 1":                                                   func(c *SamplerConfig) { c.Eta = 1.5 },
		"sample.steps is -1; it must be 1 or more":                                               func(c *SamplerConfig) { c.Steps = -1 },
		"sample.steps is 101; it must be at most diffusion.timesteps (100)":                      func(c *SamplerConfig) { c.Steps = 101 },
		"sample.steps is 100; the paper spacing then reaches timestep 100, and the last is 99":   func(c *SamplerConfig) { c.Steps, c.Spacing = 100, SpacingPaper },
		"StepsOffset is 3; it must be 0 or more, and 0 unless sample.spacing is leading":         func(c *SamplerConfig) { c.StepsOffset, c.Spacing = 3, SpacingLinear },
		"StepsOffset is 9; with 50 steps it reaches timestep 107, and the last is 99 (diffusion": func(c *SamplerConfig) { c.StepsOffset = 9 },
	} {
		c := DefaultSamplerConfig()
		change(&c)
		_, err := NewSampler(s, c)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n", "one fault, one line")
	}
	broken := SamplerConfig{Steps: -1, Eta: 2}
	require.Len(t, strings.Split(broken.Validate().Error(), "\n"), 5, "all faults at once")
	require.Equal(t, DefaultSamplerConfig(), mustSampler(t, s, DefaultSamplerConfig()).Config())
}

func BenchmarkAdvance(b *testing.B) {
	s, err := NewSchedule(Linear, 1000)
	require.NoError(b, err)
	sampler, err := NewSampler(s, DefaultSamplerConfig())
	require.NoError(b, err)
	x, out, z := make([]float32, 3072), make([]float32, 3072), make([]float32, 3072)
	b.SetBytes(int64(4 * len(x)))
	for range b.N {
		sampler.advance(x, out, z, sampler.steps[25])
	}
}

// The first image that is not finite is named.
func TestNotFiniteNamesTheImage(t *testing.T) {
	sampler := mustSampler(t, mustSchedule(t, "linear", 100), DefaultSamplerConfig())
	ids := []uint64{4, 9, 2, 7, 5}
	bad := 0
	err := sampler.Sample(t.Context(), predictorFunc(func(dst, _ []float32, _ int64) {
		if bad++; bad == 3 || bad == 5 {
			dst[0] = float32(math.NaN())
		}
	}), make([]float32, 11*len(ids)), ids, 3, nil)
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, "image 2")
}
