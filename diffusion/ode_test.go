package diffusion

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestODESamplersMatchDiffusers(t *testing.T) {
	text, err := os.ReadFile("testdata/ode_golden.json")
	require.NoError(t, err)
	var golden struct {
		Start  []float64
		Pixels int
		Cases  []struct {
			Method, Spacing, Prediction, Final string
			Steps                              int
			Clip                               bool
			Images                             []float64
		}
	}
	require.NoError(t, json.Unmarshal(text, &golden))
	require.Len(t, golden.Cases, 23)
	s := mustSchedule(t, Linear, 1000)
	for _, g := range golden.Cases {
		c := SamplerConfig{Method: g.Method, Steps: g.Steps, Spacing: g.Spacing, Clip: ClipNone, FinalAlpha: g.Final, Prediction: Prediction(g.Prediction)}
		if g.Clip {
			c.Clip = ClipBefore
		}
		sampler := mustSampler(t, s, c)
		calls := g.Steps
		if g.Method == Heun {
			calls = 2*g.Steps - 1
		}
		require.Len(t, sampler.Timesteps(), calls)
		x := make([]float32, len(golden.Start))
		for i, v := range golden.Start {
			x[i] = float32(v)
		}
		ids := make([]uint64, len(x)/golden.Pixels)
		require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), x, ids, 1, nil))
		for i, want := range g.Images {
			require.InDelta(t, want, x[i], 2e-5*max(1, math.Abs(want)), "%+v element %d", c, i)
		}
	}
}

// With a network that knows x0 the way is a straight line: any number of steps ends
// at x0, or mixed with the last trace of noise.
func TestODESamplersWithAnOracle(t *testing.T) {
	s := mustSchedule(t, Linear, 1000)
	x0 := []float32{-1, -0.5, 0, 0.25, 1}
	for _, method := range []string{DPMSolver, Heun} {
		for _, p := range []Prediction{Epsilon, X0, V} {
			oracle := predictorFunc(func(dst, x []float32, step int64) { convert(dst, x, x0, X0, p, s, int(step)) })
			for _, final := range []string{FinalAlphaOne, FinalAlphaFirst} {
				for _, steps := range []int{1, 2, 7, 30} {
					c := DefaultSamplerConfig()
					c.Method, c.Prediction, c.Steps, c.Spacing, c.FinalAlpha = method, p, steps, SpacingTrailing, final
					x := make([]float32, len(x0))
					InitialNoise(x, []uint64{3}, 9)
					require.NoError(t, mustSampler(t, s, c).Sample(t.Context(), oracle, x, []uint64{3}, 9, nil))
					for i := range x {
						require.InDelta(t, x0[i], x[i], map[string]float64{FinalAlphaOne: 1e-3, FinalAlphaFirst: 0.05}[final], "%+v", c)
					}
				}
			}
		}
	}
}

// The order of the methods. Where the images are normal numbers of mean m and
// deviation d, the best network is known, and so is the ODE's solution: the number of
// deviations from the mean stays. The second-order methods are far nearer to it
// than DDIM with as many steps.
func TestODESamplersConverge(t *testing.T) {
	const m, d, steps = 0.3, 0.4, 50
	s := mustSchedule(t, Linear, 1000)
	posterior := predictorFunc(func(dst, x []float32, step int64) {
		abar := s.AlphasCumprod[step]
		root := math.Sqrt(abar)
		dst[0] = float32(m + root*d*d/(abar*d*d+1-abar)*(float64(x[0])-root*m))
	})
	spread := func(abar float64) (mean, deviation float64) {
		return math.Sqrt(abar) * m, math.Sqrt(abar*d*d + 1 - abar)
	}
	miss := func(method string) float64 {
		c := DefaultSamplerConfig()
		c.Method, c.Prediction, c.Steps, c.Spacing, c.Clip, c.FinalAlpha = method, X0, steps, SpacingQuadratic, ClipNone, FinalAlphaFirst
		sampler := mustSampler(t, s, c)
		x := []float32{1.7}
		mean, deviation := spread(s.AlphasCumprod[sampler.Timesteps()[0]])
		z := (1.7 - mean) / deviation
		require.NoError(t, sampler.Sample(t.Context(), posterior, x, []uint64{0}, 1, nil))
		mean, deviation = spread(s.AlphasCumprod[0])
		return math.Abs(float64(x[0]) - (mean + z*deviation))
	}
	ddim := miss(DDIM)
	for _, method := range []string{DPMSolver, Heun} {
		require.Less(t, miss(method), ddim/5, method)
	}
}

// Images do not depend on the batch.
func TestODESamplersAreFunctionsOfTheImage(t *testing.T) {
	s := mustSchedule(t, Linear, 1000)
	ids := []uint64{5, 0, 99}
	for _, method := range []string{DPMSolver, Heun} {
		c := DefaultSamplerConfig()
		c.Method, c.Steps = method, 6
		sampler := mustSampler(t, s, c)
		all := make([]float32, 3*5)
		InitialNoise(all, ids, 7)
		require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), all, ids, 7, nil))
		for i, id := range ids {
			one := make([]float32, 5)
			InitialNoise(one, []uint64{id}, 7)
			require.NoError(t, sampler.Sample(t.Context(), predictorFunc(waves), one, []uint64{id}, 7, nil))
			require.Equal(t, all[i*5:(i+1)*5], one, method)
		}
	}
}

func TestODESamplersAreNotInDiffusersFiles(t *testing.T) {
	for _, method := range []string{DPMSolver, Heun} {
		c := DefaultSamplerConfig()
		c.Method = method
		_, err := EncodeSchedulerConfig(mustSchedule(t, Linear, 1000), c)
		require.ErrorIs(t, err, ErrNotInDiffusers)
	}
}
