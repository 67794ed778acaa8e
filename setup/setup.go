package setup

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// UNet translates the model section.
func UNet(m config.Model) unet.Config {
	return unet.Config{
		SampleSize: m.SampleSize, InChannels: m.InChannels, OutChannels: m.InChannels,
		BlockOutChannels: m.BlockOutChannels, LayersPerBlock: m.LayersPerBlock,
		AttentionLevels: m.AttentionLevels, NoMidAttention: !m.AddAttention, NormNumGroups: m.NormNumGroups, NormEps: m.NormEps,
		Dropout: m.Dropout, FreqShift: m.FreqShift, FlipSinToCos: m.FlipSinToCos,
		DownsamplePadding: m.DownsamplePadding, AttentionHeadDim: m.AttentionHeadDim,
		NumClassEmbeds: m.NumClassEmbeds, ScaleShift: m.ResnetTimeScaleShift == unet.TimeScaleShift,
	}
}

// ModelSection translates a model that was imported, back to the configuration.
func ModelSection(u unet.Config) config.Model {
	shift := unet.TimeDefault
	if u.ScaleShift {
		shift = unet.TimeScaleShift
	}
	return config.Model{
		SampleSize: u.SampleSize, InChannels: u.InChannels,
		BlockOutChannels: u.BlockOutChannels, LayersPerBlock: u.LayersPerBlock,
		AttentionLevels: u.AttentionLevels, AddAttention: !u.NoMidAttention, NormNumGroups: u.NormNumGroups, NormEps: u.NormEps,
		Dropout: u.Dropout, FreqShift: u.FreqShift, FlipSinToCos: u.FlipSinToCos,
		DownsamplePadding: u.DownsamplePadding, AttentionHeadDim: u.AttentionHeadDim,
		NumClassEmbeds: u.NumClassEmbeds, ResnetTimeScaleShift: shift,
	}
}

// Threads is how many threads one of several workers on this machine takes. The
// cores are those that the process's CPU limit leaves (GOMAXPROCS).
func Threads(configured, workers int) int {
	if configured > 0 {
		return configured
	}
	return max(1, runtime.GOMAXPROCS(0)/max(1, workers))
}

// Model makes the network on a backend, with zero weights.
func Model(be tensor.Backend, c *config.Config) (*unet.Model, error) {
	return unet.New(be, UNet(c.Model))
}

// Process is the forward process and what the model predicts.
func Process(c *config.Config) (*diffusion.Schedule, diffusion.Prediction, error) {
	s, err := diffusion.NewSchedule(c.Diffusion.Schedule, c.Diffusion.Timesteps)
	return s, diffusion.Prediction(c.Diffusion.Prediction), err
}

// Weighting is how much the error counts by timestep.
func Weighting(c *config.Config) diffusion.Weighting {
	return diffusion.Weighting{Kind: c.Train.LossWeighting, Gamma: c.Train.LossGamma}
}

// SamplerConfig translates the sample section.
func SamplerConfig(c *config.Config) diffusion.SamplerConfig {
	s := diffusion.DefaultSamplerConfig()
	s.Method, s.Steps, s.Spacing, s.Eta = c.Sample.Sampler, c.Sample.Steps, c.Sample.Spacing, c.Sample.Eta
	s.Variance, s.Clip = c.Sample.Variance, c.Sample.Clip
	s.Prediction = diffusion.Prediction(c.Diffusion.Prediction)
	s.Guidance = diffusion.Guidance{Scale: c.Sample.Guidance, HasNone: c.Data.LabelDropout > 0}
	return s
}

// OptimizerConfig translates the optimizer section over the optimizer's
// reference defaults.
func OptimizerConfig(c *config.Config) (optim.Config, error) {
	o, err := optim.DefaultConfig(c.Optimizer.Name)
	if err != nil {
		return o, err
	}
	o.LR = c.LR.Base
	betas := []*float64{&o.Beta1, &o.Beta2, &o.Beta3}
	if n := len(c.Optimizer.Betas); n > 0 {
		has := 0
		for _, b := range betas {
			if *b != 0 {
				has++
			}
		}
		if n != has {
			return o, fmt.Errorf("optimizer.betas has %d of the %d values that %s takes", n, has, c.Optimizer.Name)
		}
		for i, b := range c.Optimizer.Betas {
			*betas[i] = b
		}
	}
	set(&o.Eps, c.Optimizer.Eps)
	set(&o.WeightDecay, c.Optimizer.WeightDecay)
	set(&o.Momentum, c.Optimizer.Momentum)
	set(&o.Alpha, c.Optimizer.Alpha)
	set(&o.Dampening, c.Optimizer.Dampening)
	set(&o.Nesterov, c.Optimizer.Nesterov)
	set(&o.Centered, c.Optimizer.Centered)
	set(&o.NoProx, c.Optimizer.NoProx)
	set(&o.Rectify, c.Optimizer.Rectify)
	return o, o.Validate()
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

// LearningRate is the rate as a function of the global step. A run shorter than
// its warm-up never leaves it.
func LearningRate(c *config.Config) optim.LRConfig {
	return optim.LRConfig{
		Base: c.LR.Base, WarmupSteps: c.LR.WarmupSteps, Schedule: optim.Schedule(c.LR.Schedule),
		TotalSteps: max(c.Train.Steps, c.LR.WarmupSteps+1), Min: c.LR.Min,
	}
}

// Segments cuts flat vectors in the model's tensors.
func Segments(p *nn.Params) []optim.Segment {
	list := p.List()
	out := make([]optim.Segment, len(list))
	for i, q := range list {
		out[i] = optim.Segment{Name: q.Name, Off: q.Off, Len: q.Len, Vector: q.Kind == nn.Vector}
	}
	return out
}

// newPass makes all that follows the all-reduce, in host memory.
func newPass(c *config.Config, p *nn.Params, r optim.Runner) (agr.Pass, error) {
	o, err := OptimizerConfig(c)
	if err != nil {
		return nil, err
	}
	return agr.NewPassWith(o, AGR(c), Segments(p), p.FlatLen(), r)
}

// AGR is the variant of AGR; nil is none.
func AGR(c *config.Config) *agr.Config {
	if !c.Optimizer.AGR {
		return nil
	}
	return &agr.Config{
		Tensors: agr.Tensors(c.Optimizer.AGRTensors), Order: agr.Order(c.Optimizer.AGROrder), Scope: agr.Scope(c.Optimizer.AGRScope),
	}
}

// Check validates what Config.Validate leaves to the parts.
func Check(c *config.Config) error {
	var errs []error
	if c.Device == "cuda" && !HasCUDA {
		errs = append(errs, ErrNoCUDA)
	}
	if GPUs(c.Device) > 0 && c.Optimizer.AGR && c.Optimizer.AGROrder == string(agr.BeforeClip) {
		errs = append(errs, errors.New("optimizer.agr_order is before_clip, which GPUs do not have; set it to after_clip, or device to cpu"))
	}
	errs = append(errs, UNet(c.Model).Validate())
	_, err := OptimizerConfig(c)
	errs = append(errs, err, LearningRate(c).Validate())
	s, _, err := Process(c)
	if errs = append(errs, err); err == nil {
		_, err = diffusion.NewSampler(s, SamplerConfig(c))
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return &config.Error{Source: "configuration", Err: err}
	}
	return nil
}

// Documents are the two configuration files of a diffusers pipeline with this
// model: unet/config.json and scheduler/scheduler_config.json.
func Documents(c *config.Config, model unet.Config) (network, scheduler []byte, err error) {
	if network, err = model.ToDiffusers(); err != nil {
		return nil, nil, err
	}
	schedule, _, err := Process(c)
	if err != nil {
		return nil, nil, err
	}
	sampler := SamplerConfig(c)
	scheduler, err = diffusion.EncodeSchedulerConfig(schedule, sampler)
	if errors.Is(err, diffusion.ErrNotInDiffusers) {
		// The run's own way to draw has no name there: the file then gives
		// diffusers' usual one, which suits any model.
		usual := diffusion.DefaultSamplerConfig()
		usual.Prediction, usual.Clip = sampler.Prediction, sampler.Clip
		if sampler.Method == diffusion.DDPM {
			usual.Method, usual.Variance = diffusion.DDPM, sampler.Variance
		}
		sampler = usual
		scheduler, err = diffusion.EncodeSchedulerConfig(schedule, sampler)
	}
	return network, scheduler, err
}
