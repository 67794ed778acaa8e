package diffusion

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/internal/portable"
)

// MaxTimesteps bounds T: far above what anyone trains with, low enough that a
// number in a foreign file cannot exhaust the memory.
const MaxTimesteps = 100_000

// Schedules by name.
const (
	Linear  = "linear"  // DDPM's beta 1e-4 .. 0.02, scaled by 1000/T
	Cosine  = "cosine"  // Nichol & Dhariwal, arXiv 2102.09672, equation 17
	Sigmoid = "sigmoid" // Jabri et al., arXiv 2212.11972, on abar: start -3, end 3, tau 1
	Custom  = "custom"  // betas that came from elsewhere: NewScheduleFromBetas
)

// maxBeta keeps the last steps of the cosine and sigmoid schedules from
// destroying the signal altogether (arXiv 2102.09672, section 3.2).
const maxBeta = 0.999

// Schedule is the forward process: T variances and what follows from them, in
// float64. It is not changed after construction and is safe for concurrent use.
type Schedule struct {
	Kind          string    // Linear, Cosine, Sigmoid or Custom
	Betas         []float64 // [T], each in (0, 1)
	Alphas        []float64 // [T], 1 - beta
	AlphasCumprod []float64 // [T], the running product of Alphas
}

// NewSchedule returns the schedule of a name over timesteps steps. It fails on
// an unknown name, on timesteps outside 1 .. MaxTimesteps, and on fewer than 21
// steps of the linear schedule, whose last beta, 20/T, must stay below 1.
func NewSchedule(kind string, timesteps int) (*Schedule, error) {
	if err := choice("diffusion.schedule", kind, Linear, Cosine, Sigmoid); err != nil {
		return nil, err
	}
	if timesteps < 1 || timesteps > MaxTimesteps {
		return nil, fmt.Errorf("diffusion.timesteps is %d; it must be 1 to %d", timesteps, MaxTimesteps)
	}
	var betas []float64
	switch kind {
	case Linear:
		scale := 1000 / float64(timesteps)
		if scale*0.02 >= 1 {
			return nil, fmt.Errorf("diffusion.timesteps is %d; the linear schedule needs at least 21 (its last beta is 20/timesteps), or choose %s", timesteps, Cosine)
		}
		betas = linspace(float64(scale*1e-4), float64(scale*0.02), timesteps)
	case Cosine:
		betas = betasOf(timesteps, func(u float64) float64 {
			c := portable.Cos((u + 0.008) / 1.008 * math.Pi / 2)
			return c * c
		})
	case Sigmoid:
		const start, end, tau = -3, 3, 1
		lo, hi := logistic(start/tau), logistic(end/tau)
		betas = betasOf(timesteps, func(u float64) float64 {
			return (hi - logistic((float64(u*(end-start))+start)/tau)) / (hi - lo)
		})
	}
	s, err := NewScheduleFromBetas(betas)
	if err != nil {
		return nil, err
	}
	s.Kind = kind
	return s, nil
}

// NewScheduleFromBetas returns the Custom schedule of these variances (copied).
// Each must lie in (0, 1), and some signal must be left at the end: with
// abar = 0 the noise cannot be told from the image (zero terminal SNR is not
// supported).
func NewScheduleFromBetas(betas []float64) (*Schedule, error) {
	n := len(betas)
	if n < 1 || n > MaxTimesteps {
		return nil, fmt.Errorf("diffusion: a schedule of %d betas; it must have 1 to %d", n, MaxTimesteps)
	}
	s := &Schedule{
		Kind:          Custom,
		Betas:         append([]float64(nil), betas...),
		Alphas:        make([]float64, n),
		AlphasCumprod: make([]float64, n),
	}
	product := 1.0
	for t, beta := range betas {
		if !(beta > 0 && beta < 1) {
			return nil, fmt.Errorf("diffusion: beta[%d] is %v; it must be above 0 and below 1", t, beta)
		}
		s.Alphas[t] = 1 - beta
		product *= s.Alphas[t]
		s.AlphasCumprod[t] = product
	}
	// 1/sqrt(abar) multiplies a float32 in the sampler: keep it finite there.
	if product < 1e-30 {
		return nil, fmt.Errorf("diffusion: the schedule leaves no signal (abar[%d] = %v); lower the betas or use fewer timesteps", n-1, product)
	}
	return s, nil
}

// Timesteps is T.
func (s *Schedule) Timesteps() int { return len(s.Betas) }

// QSampleCoefficients returns the factors of x_0 and of the noise in x_t:
// sqrt(abar_t) and sqrt(1 - abar_t) (DDPM, equation 4), for t in [0, T).
func (s *Schedule) QSampleCoefficients(t int) (signal, noise float64) {
	abar := s.AlphasCumprod[t]
	return math.Sqrt(abar), math.Sqrt(1 - abar)
}

// QSample draws from q(x_t | x_0): dst = sqrt(abar_t) x0 + sqrt(1-abar_t) eps,
// in float64 with one rounding. The three slices have one length; dst may be
// x0 or eps.
func (s *Schedule) QSample(dst, x0, eps []float32, t int) {
	a, b := s.QSampleCoefficients(t)
	combine(dst, x0, eps, a, b)
}

// combine is dst = a x + b y. The conversions around the products forbid fused
// multiply-adds, which some architectures take and others do not: the same
// bits everywhere.
func combine(dst, x, y []float32, a, b float64) {
	if len(x) != len(dst) || len(y) != len(dst) {
		panic(fmt.Sprintf("diffusion: slices of %d, %d and %d elements; they must be of one length", len(dst), len(x), len(y)))
	}
	for i := range dst {
		dst[i] = float32(float64(a*float64(x[i])) + float64(b*float64(y[i])))
	}
}

// betasOf turns abar(u), u in [0, 1], into betas.
func betasOf(timesteps int, abar func(u float64) float64) []float64 {
	betas := make([]float64, timesteps)
	n := float64(timesteps)
	for t := range betas {
		betas[t] = min(1-abar(float64(t+1)/n)/abar(float64(t)/n), maxBeta)
	}
	return betas
}

// linspace is n values from lo to hi, both included; one value is lo. The order
// of operations is NumPy's, which the quadratic spacing's floors depend on.
func linspace(lo, hi float64, n int) []float64 {
	out := make([]float64, n)
	delta := (hi - lo) / float64(n-1)
	for i := range out {
		out[i] = lo + float64(float64(i)*delta)
	}
	out[n-1] = hi
	out[0] = lo
	return out
}

func logistic(x float64) float64 { return 1 / (1 + portable.Exp(-x)) }

// choice is nil when value is one of the allowed ones.
func choice(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s is %q; choose one of %s", key, value, strings.Join(allowed, ", "))
}
