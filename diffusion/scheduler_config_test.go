package diffusion

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The files under testdata/diffusers were written by diffusers 0.27.2
// (save_config); ddpm_cifar10_32.json is as google/ddpm-cifar10-32 has it.
func TestDecodeSchedulerConfigOfDiffusers(t *testing.T) {
	base := SamplerConfig{
		Method: DDIM, Steps: 50, Spacing: SpacingLeading, Variance: FixedLarge,
		Clip: ClipBefore, FinalAlpha: FinalAlphaAuto, Prediction: Epsilon, Guidance: Guidance{Scale: 1},
	}
	for name, want := range map[string]struct {
		kind   string
		total  int
		change func(*SamplerConfig)
	}{
		"ddpm_cifar10_32.json":  {Linear, 1000, func(c *SamplerConfig) { c.Method, c.Steps = DDPM, 0 }},
		"ddpm_fixed_large.json": {Linear, 1000, func(c *SamplerConfig) { c.Method, c.Steps = DDPM, 0 }},
		"ddpm_cosine_v.json": {Cosine, 200, func(c *SamplerConfig) {
			c.Method, c.Steps, c.Variance, c.Clip, c.Prediction = DDPM, 0, FixedSmall, ClipNone, V
		}},
		"ddim_paper.json": {Linear, 1000, func(c *SamplerConfig) {
			c.StepsOffset, c.FinalAlpha, c.Clip = 1, FinalAlphaFirst, ClipNone
		}},
		"ddim_trailing.json": {Linear, 1000, func(c *SamplerConfig) {
			c.Spacing, c.Prediction = SpacingTrailing, X0
		}},
	} {
		text, err := os.ReadFile(filepath.Join("testdata/diffusers", name))
		require.NoError(t, err)
		s, c, err := DecodeSchedulerConfig(text)
		require.NoError(t, err, name)
		expected := base
		want.change(&expected)
		require.Equal(t, expected, c, name)
		require.Equal(t, want.kind, s.Kind, name)
		require.Equal(t, want.total, s.Timesteps(), name)
	}
}

// What this package writes is what diffusers itself writes for the same
// settings, key by key.
func TestEncodeSchedulerConfigIsDiffusersFile(t *testing.T) {
	for name, c := range map[string]SamplerConfig{
		"ddpm_fixed_large.json": {Method: DDPM, Variance: FixedLarge, Spacing: SpacingLinear, Clip: ClipBefore, Prediction: Epsilon},
		"ddim_paper.json":       {Method: DDIM, Spacing: SpacingPaper, Clip: ClipAfter, Prediction: Epsilon},
		"ddim_trailing.json":    {Method: DDIM, Spacing: SpacingTrailing, Clip: ClipBefore, Prediction: X0},
	} {
		text, err := EncodeSchedulerConfig(mustSchedule(t, Linear, 1000), c)
		require.NoError(t, err)
		golden, err := os.ReadFile(filepath.Join("testdata/diffusers", name))
		require.NoError(t, err)
		var got, want map[string]any
		require.NoError(t, json.Unmarshal(text, &got))
		require.NoError(t, json.Unmarshal(golden, &want))
		delete(want, "sample_max_value") // these two belong to thresholding, which is off
		delete(want, "dynamic_thresholding_ratio")
		require.Equal(t, want, got, name)
	}
}

func TestSchedulerConfigRoundTrip(t *testing.T) {
	custom, err := NewScheduleFromBetas([]float64{0.1, 0.2, 1.0 / 3})
	require.NoError(t, err)
	schedules := []*Schedule{custom}
	for _, kind := range []string{Linear, Cosine, Sigmoid} {
		schedules = append(schedules, mustSchedule(t, kind, 1000), mustSchedule(t, kind, 77))
	}
	for _, s := range schedules {
		for _, c := range []SamplerConfig{
			{Method: DDPM, Variance: FixedSmall, Clip: ClipNone, Spacing: SpacingLeading, FinalAlpha: FinalAlphaAuto, Prediction: V},
			{Method: DDIM, Variance: FixedLarge, Steps: 50, Clip: ClipBefore, Spacing: SpacingLeading, StepsOffset: 2, FinalAlpha: FinalAlphaFirst, Prediction: X0},
			{Method: DDIM, Variance: FixedLarge, Steps: 50, Clip: ClipBefore, Spacing: SpacingTrailing, FinalAlpha: FinalAlphaAuto, Prediction: Epsilon},
		} {
			c.Guidance.Scale = 1 // none: a scheduler knows no classes
			text, err := EncodeSchedulerConfig(s, c)
			require.NoError(t, err)
			gotS, gotC, err := DecodeSchedulerConfig(text)
			require.NoError(t, err, "%s", text)
			require.Equal(t, c, gotC)
			require.Equal(t, s, gotS, "the same bits of every beta")
		}
	}
}

func TestEncodeSchedulerConfigRefusesWhatDiffusersLacks(t *testing.T) {
	s := mustSchedule(t, Linear, 100)
	c := DefaultSamplerConfig()
	c.Spacing = SpacingQuadratic
	_, err := EncodeSchedulerConfig(s, c)
	require.ErrorIs(t, err, ErrNotInDiffusers)
	require.ErrorContains(t, err, "sample.spacing quadratic")
	c.Method, c.Spacing = DDPM, SpacingPaper
	_, err = EncodeSchedulerConfig(s, c)
	require.ErrorIs(t, err, ErrNotInDiffusers)
	require.ErrorContains(t, err, "sample.spacing paper, FinalAlpha auto")
	c.Spacing, c.FinalAlpha = SpacingLeading, FinalAlphaFirst
	_, err = EncodeSchedulerConfig(s, c)
	require.ErrorIs(t, err, ErrNotInDiffusers)
	c.Method = "x"
	_, err = EncodeSchedulerConfig(s, c)
	require.ErrorContains(t, err, "sample.sampler")
}

func TestDecodeSchedulerConfigErrorsNameTheKey(t *testing.T) {
	for text, want := range map[string]string{
		``:                                 "not a JSON object",
		`[1]`:                              "not a JSON object",
		`{"_class_name":"DDPMScheduler"}}`: "not a JSON object",
		`{}`:                               `_class_name is ""; choose one of DDPMScheduler, DDIMScheduler`,
		`{"_class_name":"PNDMScheduler"}`:  `_class_name is "PNDMScheduler"`,
		`{"_class_name":"DDPMScheduler","variance_type":"learned"}`:                         `variance_type "learned" is not supported`,
		`{"_class_name":"DDPMScheduler","thresholding":true}`:                               "thresholding true is not supported",
		`{"_class_name":"DDPMScheduler","rescale_betas_zero_snr":true}`:                     "rescale_betas_zero_snr true is not supported",
		`{"_class_name":"DDPMScheduler","clip_sample_range":2}`:                             "clip_sample_range 2 is not supported",
		`{"_class_name":"DDPMScheduler","prediction_type":"flow"}`:                          `prediction_type is "flow"`,
		`{"_class_name":"DDIMScheduler","timestep_spacing":"linspace"}`:                     `timestep_spacing is "linspace"; choose one of leading, trailing`,
		`{"_class_name":"DDIMScheduler","steps_offset":-1}`:                                 "StepsOffset is -1",
		`{"_class_name":"DDIMScheduler","beta_schedule":"laplace"}`:                         `beta_schedule is "laplace"`,
		`{"_class_name":"DDIMScheduler","num_train_timesteps":0}`:                           "num_train_timesteps is 0",
		`{"_class_name":"DDIMScheduler","num_train_timesteps":9e9}`:                         "num_train_timesteps",
		`{"_class_name":"DDIMScheduler","num_train_timesteps":"x"}`:                         "num_train_timesteps",
		`{"_class_name":"DDIMScheduler","trained_betas":[0.1]}`:                             "trained_betas has 1 values for 1000 num_train_timesteps",
		`{"_class_name":"DDIMScheduler","beta_start":-1}`:                                   "beta[0] is -1",
		`{"_class_name":"DDIMScheduler","beta_start":-1,"beta_schedule":"scaled_linear"}`:   "beta[0] is NaN",
		`{"_class_name":"DDIMScheduler","num_train_timesteps":1000000,"beta_start":0.0001}`: "num_train_timesteps is 1000000; it must be 1 to 100000",
	} {
		_, _, err := DecodeSchedulerConfig([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "scheduler config: ")
	}
}

// Whatever the file: an error, or a schedule and a sampler that work and
// survive being written and read again.
func FuzzDecodeSchedulerConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/diffusers/*.json")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"_class_name":"DDIMScheduler","num_train_timesteps":2,"trained_betas":[0.5,0.25]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, c, err := DecodeSchedulerConfig(text)
		if err != nil {
			return
		}
		c.Steps = 1
		sampler, err := NewSampler(s, c)
		if err != nil {
			require.Positive(t, c.StepsOffset, "%v", err)
			return
		}
		for _, k := range sampler.steps {
			for _, v := range []float64{k.xx, k.xo, k.kx0, k.kxt, k.kout, k.sigma} {
				require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "%+v", k)
			}
		}
		again, err := EncodeSchedulerConfig(s, c)
		require.NoError(t, err)
		s2, c2, err := DecodeSchedulerConfig(again)
		require.NoError(t, err)
		c2.Steps = 1
		require.Equal(t, c, c2)
		require.Equal(t, s.Betas, s2.Betas)
	})
}
