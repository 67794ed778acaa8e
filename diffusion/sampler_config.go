package diffusion

import (
	"errors"
	"fmt"
)

// Sampling methods.
const (
	DDPM = "ddpm" // ancestral sampling (DDPM, algorithm 2), over all T steps or a subset of them
	DDIM = "ddim" // DDIM, equation 12
	// DPMSolver is DPM-Solver++(2M), a second-order multistep method (Lu et al.,
	// arXiv 2211.01095, algorithm 2): good images in 10 to 25 steps.
	DPMSolver = "dpmpp_2m"
	// Heun is the second-order method of EDM (Karras et al., arXiv 2206.00364,
	// algorithm 1, without churn): 2 S - 1 calls of the model for S steps.
	Heun = "heun"
)

// Spacings: which timesteps a sampler of S steps visits, out of T.
const (
	// SpacingLinear is floor(i T/S), i < S: even over the whole range, exactly S
	// steps; the DDIM paper's list where S divides T.
	SpacingLinear = "linear"
	// SpacingLeading is i (T div S) + StepsOffset, i < S: diffusers' "leading".
	SpacingLeading = "leading"
	// SpacingTrailing is round(T - i T/S) - 1: diffusers' "trailing", which
	// starts at T-1 (Lin et al., arXiv 2305.08891). Where S does not divide T,
	// diffusers steps to t - T div S, which is not the timestep it visits next;
	// here a step always ends where the next begins.
	SpacingTrailing = "trailing"
	// SpacingQuadratic is floor(q_i^2) + 1 with q_i even over [0, sqrt(0.8 T)]:
	// dense near the image. Equal neighbours are visited once, so it may be
	// shorter than S.
	SpacingQuadratic = "quadratic"
	// SpacingPaper is 1, 1+d, 1+2d, .. with d = T div S: the list of the public
	// code around the AGR paper. Where S does not divide T it is longer than S.
	SpacingPaper = "paper"
)

// Variances of DDPM's reverse step (DDPM, section 3.2).
const (
	FixedLarge = "fixedlarge" // beta_t
	FixedSmall = "fixedsmall" // the posterior variance (1-abar_prev)/(1-abar_t) beta_t
)

// When the predicted x0 is held to [-1, 1].
const (
	ClipBefore = "before" // in every step, before x_{t-1} is formed from it: the standard
	ClipAfter  = "after"  // only the finished image; the chain itself is not clipped
	ClipNone   = "none"   // never
)

// abar after the last step.
const (
	FinalAlphaAuto  = "auto"  // first for the quadratic and paper spacings, one for the others
	FinalAlphaOne   = "one"   // 1: the last step returns the predicted x0
	FinalAlphaFirst = "first" // abar[0]: a trace of noise stays (diffusers' set_alpha_to_one false)
)

// SamplerConfig is how images are drawn from a model.
type SamplerConfig struct {
	Method      string     // DDPM, DDIM, DPMSolver or Heun
	Steps       int        // S, calls of the model (Heun: about twice as many); 0: all T
	Spacing     string     // SpacingLinear, ...: which of the T timesteps are visited
	StepsOffset int        // added to every timestep of SpacingLeading; 0 for the others
	Eta         float64    // DDIM: 0 deterministic .. 1 as much noise as DDPM's fixedsmall; DDPM ignores it
	Variance    string     // DDPM: FixedLarge or FixedSmall; DDIM ignores it
	Clip        string     // ClipBefore, ClipAfter or ClipNone
	FinalAlpha  string     // FinalAlphaAuto, ...; empty is auto
	Prediction  Prediction // what the model predicts
	Guidance    Guidance   // of a conditional model
}

// Guidance says which classes a conditional model draws and how strongly
// (classifier-free guidance: Ho & Salimans, arXiv 2207.12598). The sampler does not
// look at it: whoever wraps the model in a Predictor does.
type Guidance struct {
	// Scale s takes the output out(none) + s (out(class) - out(none)): 1 is the class
	// alone, 0 as if there were none. Other scales than 1 need HasNone.
	Scale float64
	// HasNone says that the model's last class stands for none, as training with label
	// dropout makes it.
	HasNone bool
	// Only, where it is not nil, is the one class that is drawn. Otherwise images come
	// in rows of GuidanceRow of a class, the classes one after another.
	Only *int
}

// GuidanceRow is how many images of one class follow each other.
const GuidanceRow = 10

// Class is the class of image id, of so many classes.
func (g Guidance) Class(id uint64, classes int) int64 {
	if g.Only != nil {
		return int64(*g.Only)
	}
	return int64(id / GuidanceRow % uint64(classes))
}

// DefaultSamplerConfig is diffusers' DDIM: 50 steps without noise, x0 clipped,
// for a model that predicts epsilon.
func DefaultSamplerConfig() SamplerConfig {
	return SamplerConfig{
		Method: DDIM, Steps: 50, Spacing: SpacingLeading, Variance: FixedLarge,
		Clip: ClipBefore, FinalAlpha: FinalAlphaAuto, Prediction: Epsilon, Guidance: Guidance{Scale: 1},
	}
}

// Validate reports everything that is wrong whatever the schedule is, one line
// each, by the key's name. NewSampler checks the steps against the schedule.
func (c SamplerConfig) Validate() error {
	errs := []error{
		choice("sample.sampler", c.Method, DDPM, DDIM, DPMSolver, Heun),
		choice("sample.spacing", c.Spacing, SpacingLinear, SpacingLeading, SpacingTrailing, SpacingQuadratic, SpacingPaper),
		choice("sample.clip", c.Clip, ClipBefore, ClipAfter, ClipNone),
		choice("diffusion.prediction", string(c.Prediction), predictionNames()...),
	}
	if c.FinalAlpha != "" {
		errs = append(errs, choice("FinalAlpha", c.FinalAlpha, FinalAlphaAuto, FinalAlphaOne, FinalAlphaFirst))
	}
	if c.Method == DDPM {
		errs = append(errs, choice("sample.variance", c.Variance, FixedLarge, FixedSmall))
	}
	if c.Method == DDIM && !(c.Eta >= 0 && c.Eta <= 1) {
		errs = append(errs, fmt.Errorf("sample.eta is %v; it must be 0 to 1", c.Eta))
	}
	if c.Steps < 0 {
		errs = append(errs, fmt.Errorf("sample.steps is %d; it must be 1 or more (0: all timesteps)", c.Steps))
	}
	if c.StepsOffset < 0 || (c.StepsOffset > 0 && c.Spacing != SpacingLeading) {
		errs = append(errs, fmt.Errorf("StepsOffset is %d; it must be 0 or more, and 0 unless sample.spacing is %s", c.StepsOffset, SpacingLeading))
	}
	return errors.Join(errs...)
}

// endsAtOne says whether abar is 1 after the last step.
func (c SamplerConfig) endsAtOne() bool {
	if c.FinalAlpha == FinalAlphaAuto || c.FinalAlpha == "" {
		return c.Spacing != SpacingPaper && c.Spacing != SpacingQuadratic
	}
	return c.FinalAlpha == FinalAlphaOne
}
