package recipe

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
)

// Recipe is what a model that was opened belongs to.
type Recipe struct {
	// Config is the run's configuration; for what another program wrote the default one
	// with the model and the forward process of its documents.
	Config   *config.Config
	Schedule *diffusion.Schedule
	Sampler  diffusion.SamplerConfig
}

// Of interprets the documents of a source.
func Of(src *rundir.Source) (*Recipe, error) {
	r, err := of(src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Path, err)
	}
	return r, nil
}

func of(src *rundir.Source) (*Recipe, error) {
	if src.Kind.Foreign() {
		return pipelineRecipe(src)
	}
	c, err := config.FromYAML(src.State.Config)
	if err != nil {
		return nil, fmt.Errorf("config.yaml: %w", err)
	}
	r := &Recipe{Config: c, Sampler: setup.SamplerConfig(c)}
	r.Schedule, _, err = setup.Process(c)
	return r, err
}

// pipelineRecipe reads diffusers' two documents.
func pipelineRecipe(src *rundir.Source) (*Recipe, error) {
	model, err := unet.ConfigFromDiffusers(src.State.UNetConfig)
	if err != nil {
		return nil, err
	}
	if err := trainable(model); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join("unet", "config.json"), err)
	}
	c := config.Default()
	c.Model = setup.ModelSection(model)
	r := &Recipe{Config: &c}
	if src.State.SchedulerConfig == nil { // a UNet alone
		r.Sampler = setup.SamplerConfig(&c)
		r.Schedule, _, err = setup.Process(&c)
		return r, err
	}
	if r.Schedule, r.Sampler, err = diffusion.DecodeSchedulerConfig(src.State.SchedulerConfig); err != nil {
		return nil, err
	}
	c.Diffusion = config.Diffusion{
		Timesteps: r.Schedule.Timesteps(), Schedule: r.Schedule.Kind, Prediction: string(r.Sampler.Prediction),
	}
	return r, nil
}

// Trainable refuses a diffusers directory whose forward process a configuration cannot
// say, though it can be sampled from.
func Trainable(src *rundir.Source, r *Recipe) error {
	switch r.Schedule.Kind {
	case diffusion.Linear, diffusion.Cosine, diffusion.Sigmoid:
		return nil
	}
	var doc struct {
		Schedule string    `json:"beta_schedule"`
		Start    float64   `json:"beta_start"`
		End      float64   `json:"beta_end"`
		Betas    []float64 `json:"trained_betas"`
	}
	if err := json.Unmarshal(src.State.SchedulerConfig, &doc); err != nil {
		return fmt.Errorf("%s: %w", src.Path, err)
	}
	field := fmt.Sprintf("beta_schedule is %s from %g to %g in %d steps", doc.Schedule, doc.Start, doc.End, r.Schedule.Timesteps())
	if doc.Betas != nil {
		field = "trained_betas is set"
	}
	return fmt.Errorf("%s: scheduler_config.json: %s; agrdist samples from such a model, and trains linear (from %g to %g in so many steps), squaredcos_cap_v2 and its own sigmoid schedules only", src.Path, field,
		0.1/float64(r.Schedule.Timesteps()), 20/float64(r.Schedule.Timesteps()))
}

// trainable refuses what diffusers and package unet can have and a configuration
// cannot say.
func trainable(m unet.Config) error {
	if m.OutChannels != m.InChannels {
		return fmt.Errorf("out_channels is %d and in_channels %d; they must be equal", m.OutChannels, m.InChannels)
	}
	return nil
}

// Fits compares a configuration with the one that the checkpoint at path was written
// under.
func Fits(c *config.Config, snap *checkpoint.Snapshot, path string) error {
	saved, err := config.FromYAML(snap.Config)
	if err != nil {
		return fmt.Errorf("%s: its configuration cannot be read: %w", path, err)
	}
	if diff := c.Contradictions(saved); len(diff) > 0 {
		return &config.Error{Source: "configuration", Err: &ContradictionError{Path: path, Keys: diff}}
	}
	return nil
}

// ContradictionError says that a run's settings are not those of its checkpoint.
type ContradictionError struct {
	Path string
	Keys []string
}

func (e *ContradictionError) Error() string {
	return "contradicts the checkpoint " + e.Path + ": " + strings.Join(e.Keys, "; ") +
		". Use its settings, start from scratch with --resume never, or choose another --out"
}
