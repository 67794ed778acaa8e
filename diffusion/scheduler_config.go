package diffusion

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// diffusersVersion is the release whose schedulers the written files and the
// samplers are checked against.
const diffusersVersion = "0.27.2"

// ErrNotInDiffusers is wrapped by EncodeSchedulerConfig for a sampler that
// diffusers has no setting for. The schedule and the prediction can always be
// written: with DefaultSamplerConfig's spacing and final alpha it succeeds.
var ErrNotInDiffusers = errors.New("diffusion: no counterpart in diffusers")

// Class names of diffusers.
const (
	ddpmClass = "DDPMScheduler"
	ddimClass = "DDIMScheduler"
)

// schedulerFile is diffusers' scheduler_config.json, keys in its order (sorted).
// A pointer that is nil is a key that is absent or null. Fields that only one
// of the two classes has are omitted for the other.
type schedulerFile struct {
	ClassName       string    `json:"_class_name"`
	Version         string    `json:"_diffusers_version,omitempty"`
	BetaEnd         *float64  `json:"beta_end"`
	BetaSchedule    *string   `json:"beta_schedule"`
	BetaStart       *float64  `json:"beta_start"`
	ClipSample      *bool     `json:"clip_sample"`
	ClipSampleRange *float64  `json:"clip_sample_range"`
	NumTimesteps    *int      `json:"num_train_timesteps"`
	PredictionType  *string   `json:"prediction_type"`
	RescaleBetas    *bool     `json:"rescale_betas_zero_snr"`
	SetAlphaToOne   *bool     `json:"set_alpha_to_one,omitempty"`
	StepsOffset     *int      `json:"steps_offset"`
	Thresholding    *bool     `json:"thresholding"`
	TimestepSpacing *string   `json:"timestep_spacing"`
	TrainedBetas    []float64 `json:"trained_betas"`
	VarianceType    *string   `json:"variance_type,omitempty"`
}

// EncodeSchedulerConfig returns diffusers' scheduler_config.json for a schedule
// and a sampler: DDPMScheduler or DDIMScheduler. Schedules that diffusers has
// no name for are written as their betas.
//
// DPMSolver and Heun are not written (ErrNotInDiffusers): they suit any model, and
// diffusers makes its own from either class. It has no quadratic spacing and no DDPM that ends at abar[0]
// (ErrNotInDiffusers), and takes the number of steps and eta at the call instead
// of from the file. SpacingLinear is written as "leading", and SpacingPaper as
// "leading" with steps_offset 1: the same timesteps where the steps divide T.
// ClipAfter is written as clip_sample false, since diffusers' pipelines clip the
// finished image anyway.
func EncodeSchedulerConfig(s *Schedule, c SamplerConfig) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Method != DDPM && c.Method != DDIM {
		return nil, fmt.Errorf("sample.sampler %s: %w; choose %s or %s", c.Method, ErrNotInDiffusers, DDPM, DDIM)
	}
	f := schedulerFile{
		ClassName:       ddpmClass,
		Version:         diffusersVersion,
		BetaSchedule:    new("linear"),
		BetaStart:       new(1e-4),
		BetaEnd:         new(0.02),
		ClipSample:      new(c.Clip == ClipBefore),
		ClipSampleRange: new(1.0),
		NumTimesteps:    new(s.Timesteps()),
		PredictionType:  new(string(c.Prediction)),
		RescaleBetas:    new(false),
		StepsOffset:     new(c.StepsOffset),
		Thresholding:    new(false),
	}
	switch s.Kind {
	case Linear:
		f.BetaStart, f.BetaEnd = new(s.Betas[0]), new(s.Betas[len(s.Betas)-1])
	case Cosine:
		f.BetaSchedule = new("squaredcos_cap_v2")
	default:
		f.TrainedBetas = s.Betas
	}
	switch c.Spacing {
	case SpacingLinear, SpacingLeading:
		f.TimestepSpacing = new("leading")
	case SpacingTrailing:
		f.TimestepSpacing = new("trailing")
	case SpacingPaper:
		f.TimestepSpacing, f.StepsOffset = new("leading"), new(1)
	default:
		return nil, fmt.Errorf("sample.spacing %s: %w; choose %s or %s", c.Spacing, ErrNotInDiffusers, SpacingLeading, SpacingTrailing)
	}
	switch {
	case c.Method == DDIM:
		f.ClassName = ddimClass
		f.SetAlphaToOne = new(c.endsAtOne())
	case !c.endsAtOne():
		return nil, fmt.Errorf("sample.sampler %s that ends at abar[0] (sample.spacing %s, FinalAlpha %s): %w; choose sample.spacing %s and FinalAlpha %s",
			DDPM, c.Spacing, cmp.Or(c.FinalAlpha, FinalAlphaAuto), ErrNotInDiffusers, SpacingLeading, FinalAlphaAuto)
	default:
		f.VarianceType = new(map[string]string{FixedLarge: "fixed_large", FixedSmall: "fixed_small"}[c.Variance])
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	return append(text, '\n'), nil
}

// DecodeSchedulerConfig reads diffusers' scheduler_config.json of a
// DDPMScheduler or DDIMScheduler. Absent keys have that class's defaults;
// keys that it does not know are ignored, as diffusers does; settings that
// change the images and that this package lacks (thresholding, zero terminal
// SNR, learned variances, other clip ranges) are errors that name the key.
//
// The file has no number of steps and no eta: DDPM gets all timesteps, DDIM
// those of DefaultSamplerConfig.
func DecodeSchedulerConfig(text []byte) (*Schedule, SamplerConfig, error) {
	s, c, err := decodeSchedulerConfig(text)
	if err != nil {
		return nil, SamplerConfig{}, fmt.Errorf("scheduler config: %w", err)
	}
	return s, c, nil
}

func decodeSchedulerConfig(text []byte) (*Schedule, SamplerConfig, error) {
	var f schedulerFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, SamplerConfig{}, fmt.Errorf("not a JSON object as diffusers writes it: %w", err)
	}
	if err := choice("_class_name", f.ClassName, ddpmClass, ddimClass); err != nil {
		return nil, SamplerConfig{}, err
	}
	c := DefaultSamplerConfig()
	if f.ClassName == ddpmClass {
		c.Method, c.Steps, c.Variance = DDPM, 0, FixedSmall
		switch v := or(f.VarianceType, "fixed_small"); v {
		case "fixed_small", "fixed_small_log":
		case "fixed_large":
			c.Variance = FixedLarge
		default:
			return nil, c, fmt.Errorf("variance_type %q is not supported; it must be fixed_small, fixed_small_log or fixed_large", v)
		}
	}
	if or(f.Thresholding, false) {
		return nil, c, errors.New("thresholding true is not supported")
	}
	if or(f.RescaleBetas, false) {
		return nil, c, errors.New("rescale_betas_zero_snr true is not supported")
	}
	if or(f.ClipSample, true) {
		if r := or(f.ClipSampleRange, 1); r != 1 {
			return nil, c, fmt.Errorf("clip_sample_range %v is not supported; it must be 1", r)
		}
	} else {
		c.Clip = ClipNone
	}
	c.Prediction = Prediction(or(f.PredictionType, string(Epsilon)))
	if err := choice("prediction_type", string(c.Prediction), predictionNames()...); err != nil {
		return nil, c, err
	}
	c.Spacing = or(f.TimestepSpacing, "leading")
	if err := choice("timestep_spacing", c.Spacing, SpacingLeading, SpacingTrailing); err != nil {
		return nil, c, err
	}
	if c.Spacing == SpacingLeading { // trailing ignores it, in diffusers too
		c.StepsOffset = or(f.StepsOffset, 0)
	}
	// Auto is one for these spacings, and stays right when the caller then
	// chooses another spacing.
	if !or(f.SetAlphaToOne, true) && c.Method == DDIM {
		c.FinalAlpha = FinalAlphaFirst
	}
	if err := c.Validate(); err != nil {
		return nil, c, err
	}
	s, err := f.schedule()
	return s, c, err
}

// schedule builds the betas as the scheduler's constructor does, in float64.
func (f *schedulerFile) schedule() (*Schedule, error) {
	total := or(f.NumTimesteps, 1000)
	if total < 1 || total > MaxTimesteps {
		return nil, fmt.Errorf("num_train_timesteps is %d; it must be 1 to %d", total, MaxTimesteps)
	}
	if f.TrainedBetas != nil {
		if len(f.TrainedBetas) != total {
			return nil, fmt.Errorf("trained_betas has %d values for %d num_train_timesteps", len(f.TrainedBetas), total)
		}
		return fromBetas(f.TrainedBetas)
	}
	lo, hi := or(f.BetaStart, 1e-4), or(f.BetaEnd, 0.02)
	switch kind := or(f.BetaSchedule, "linear"); kind {
	case "linear":
		return fromBetas(linspace(lo, hi, total))
	case "scaled_linear":
		betas := linspace(math.Sqrt(lo), math.Sqrt(hi), total)
		for t, root := range betas {
			betas[t] = root * root
		}
		return fromBetas(betas)
	case "squaredcos_cap_v2":
		return NewSchedule(Cosine, total)
	case "sigmoid": // GeoDiff's: a sigmoid in beta, where Sigmoid is one in abar
		betas := linspace(-6, 6, total)
		for t, x := range betas {
			betas[t] = float64(logistic(x)*(hi-lo)) + lo
		}
		return fromBetas(betas)
	default:
		return nil, fmt.Errorf("beta_schedule is %q; choose one of %s", kind,
			strings.Join([]string{"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"}, ", "))
	}
}

// fromBetas is NewScheduleFromBetas that recognises this package's own
// schedules, so that a file read back has the Kind that it was written from.
func fromBetas(betas []float64) (*Schedule, error) {
	s, err := NewScheduleFromBetas(betas)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{Linear, Sigmoid} {
		if named, err := NewSchedule(kind, len(betas)); err == nil && closeTo(named.Betas, betas) {
			return named, nil
		}
	}
	return s, nil
}

// closeTo allows for a few roundings: a decimal written and read is exact, the
// operations behind it need not be.
func closeTo(a, b []float64) bool {
	for i := range a {
		if math.Abs(a[i]-b[i]) > 1e-12*a[i] {
			return false
		}
	}
	return true
}

// or is *p, or the default when p is nil.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
