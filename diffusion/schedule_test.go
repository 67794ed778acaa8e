package diffusion

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/rng"
)

func TestScheduleCheckValues(t *testing.T) {
	linear, err := NewSchedule(Linear, 1000)
	require.NoError(t, err)
	require.InDelta(t, 0.9999, linear.AlphasCumprod[0], 1e-15)
	require.InEpsilon(t, 4.0358e-5, linear.AlphasCumprod[999], 1e-5)
	require.InDelta(t, 1e-4, linear.Betas[0], 0)
	require.InDelta(t, 0.02, linear.Betas[999], 0)

	cosine, err := NewSchedule(Cosine, 1000)
	require.NoError(t, err)
	require.InEpsilon(t, 4.1284e-5, cosine.Betas[0], 1e-4)
	require.InEpsilon(t, 3.14589e-3, cosine.Betas[499], 1e-5)
	require.InDelta(t, 0.999, cosine.Betas[999], 0)

	sigmoid, err := NewSchedule(Sigmoid, 1000)
	require.NoError(t, err)
	require.InEpsilon(t, 3.00279e-4, sigmoid.Betas[0], 1e-5)
	require.InEpsilon(t, 0.5, sigmoid.AlphasCumprod[499], 1e-12)
}

func TestScheduleMatchesDiffusers(t *testing.T) {
	golden := loadGolden(t)
	for name, file := range map[string]schedulerFile{
		"linear/100":             {NumTimesteps: new(100), BetaStart: new(1e-3), BetaEnd: new(0.2)},
		"linear/1000":            {},
		"squaredcos_cap_v2/100":  {NumTimesteps: new(100), BetaSchedule: new("squaredcos_cap_v2")},
		"squaredcos_cap_v2/1000": {BetaSchedule: new("squaredcos_cap_v2")},
		"scaled_linear/1000":     {BetaSchedule: new("scaled_linear")},
		"sigmoid/1000":           {BetaSchedule: new("sigmoid")},
	} {
		s, err := file.schedule()
		require.NoError(t, err, name)
		want := golden.Betas[name]
		require.Len(t, want, 20, name)
		for i, beta := range want { // diffusers computes them in float32
			require.InEpsilon(t, beta, s.Betas[i*s.Timesteps()/20], 2e-5, "%s beta[%d]", name, i*s.Timesteps()/20)
		}
	}
}

// The product of alphas must end where the schedule's abar does whatever T is,
// and every schedule loses signal at every step.
func TestSchedulesDescendAndKeepTheirEnds(t *testing.T) {
	for _, kind := range []string{Linear, Cosine, Sigmoid} {
		for _, total := range []int{21, 100, 1000, 4000} {
			s, err := NewSchedule(kind, total)
			require.NoError(t, err)
			require.Equal(t, total, s.Timesteps())
			previous := 1.0
			for i, abar := range s.AlphasCumprod {
				require.Less(t, abar, previous, "%s %d at %d", kind, total, i)
				require.InDelta(t, 1-s.Betas[i], s.Alphas[i], 0)
				previous = abar
			}
			require.Less(t, previous, 2e-3, "%s %d", kind, total)
		}
	}
}

func TestScheduleErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct {
		kind  string
		total int
		want  string
	}{
		{"quadratic", 1000, `diffusion.schedule is "quadratic"; choose one of linear, cosine, sigmoid`},
		{Linear, 0, "diffusion.timesteps is 0; it must be 1 to 100000"},
		{Cosine, MaxTimesteps + 1, "diffusion.timesteps is 100001; it must be 1 to 100000"},
		{Linear, 20, "diffusion.timesteps is 20; the linear schedule needs at least 21"},
	} {
		_, err := NewSchedule(c.kind, c.total)
		require.ErrorContains(t, err, c.want)
	}
	for _, betas := range [][]float64{nil, {0.1, 0}, {1}, {-0.1}, {math.NaN()}, {0.999, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999, 0.999}} {
		_, err := NewScheduleFromBetas(betas)
		require.Error(t, err, "%v", betas)
	}
}

// x_t has the variance that the schedule says: 1 for data of variance 1.
func TestQSampleKeepsUnitVariance(t *testing.T) {
	s, err := NewSchedule(Linear, 1000)
	require.NoError(t, err)
	const n = 1 << 16
	x0, eps, xt := make([]float32, n), make([]float32, n), make([]float32, n)
	rng.New(1, rng.StreamNoise).Normal(x0, 0)
	rng.New(1, rng.StreamNoise).Normal(eps, 1)
	for _, step := range []int{0, 10, 300, 999} {
		s.QSample(xt, x0, eps, step)
		a, b := s.QSampleCoefficients(step)
		require.InDelta(t, 1, a*a+b*b, 1e-15)
		require.InDelta(t, float32(a*float64(x0[3])+b*float64(eps[3])), xt[3], 1e-6)
		mean, variance := moments(xt)
		require.InDelta(t, 0, mean, 5/math.Sqrt(n))
		require.InDelta(t, 1, variance, 5*math.Sqrt(2.0/n))
	}
	require.Panics(t, func() { s.QSample(xt, x0[:3], eps, 0) })
	s.QSample(x0, x0, eps, 999)
	require.Equal(t, xt, x0, "in place")
}

func TestPredictionsAgree(t *testing.T) {
	s, err := NewSchedule(Cosine, 100)
	require.NoError(t, err)
	const n = 64
	x0, eps, xt := make([]float32, n), make([]float32, n), make([]float32, n)
	rng.New(2, rng.StreamNoise).Normal(x0, 0)
	rng.New(2, rng.StreamNoise).Normal(eps, 1)
	targets := map[Prediction][]float32{Epsilon: make([]float32, n), X0: make([]float32, n), V: make([]float32, n)}
	got := make([]float32, n)
	for _, step := range []int{1, 20, 50, 80} {
		s.QSample(xt, x0, eps, step)
		for p, target := range targets {
			p.Target(target, x0, eps, s, step)
		}
		require.Equal(t, eps, targets[Epsilon])
		require.Equal(t, x0, targets[X0])
		signal, noise := s.QSampleCoefficients(step)
		require.InDelta(t, signal*float64(eps[5])-noise*float64(x0[5]), targets[V][5], 1e-6)
		for from := range targets {
			for to := range targets {
				convert(got, xt, targets[from], from, to, s, step)
				// The conversion divides float32 roundings by the smaller factor.
				require.InDeltaSlice(t, targets[to], got, 1e-6/min(signal, noise), "%s -> %s at %d", from, to, step)
			}
		}
	}
	require.Panics(t, func() { convert(got, xt, xt, "score", Epsilon, s, 1) })
	require.Panics(t, func() { Prediction("").TargetCoefficients(s, 1) })
}

func TestTimestepIsUniformAndKeyedByDraw(t *testing.T) {
	const total, draws = 10, 50_000
	var count [total]int
	for d := range uint64(draws) {
		count[Timestep(3, d, total)]++
	}
	for step, c := range count {
		require.InDelta(t, draws/total, c, 5*math.Sqrt(draws/total), "timestep %d", step)
	}
	require.Equal(t, rng.New(3, rng.StreamTimestep).IntN(17, 1000), Timestep(3, 17, 1000))
}

func moments(x []float32) (mean, variance float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, variance / float64(len(x))
}

// goldenFile is testdata/diffusers_golden.json; its script says how it was made.
type goldenFile struct {
	Seed   uint64               `json:"seed"`
	IDs    []uint64             `json:"ids"`
	Pixels int                  `json:"pixels"`
	XT     []float32            `json:"x_T"`
	Betas  map[string][]float64 `json:"betas_every_twentieth"`
	Cases  []struct {
		Config    json.RawMessage `json:"config"`
		Steps     int             `json:"steps"`
		Eta       float64         `json:"eta"`
		Timesteps []int           `json:"timesteps"`
		Images    []float32       `json:"images"`
	} `json:"cases"`
}

func loadGolden(t *testing.T) goldenFile {
	t.Helper()
	text, err := os.ReadFile("testdata/diffusers_golden.json")
	require.NoError(t, err)
	var g goldenFile
	require.NoError(t, json.Unmarshal(text, &g))
	return g
}
