package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rundir"
)

// worstResidual is how far the profile of a combined average may be from the wanted one.
const worstResidual = 0.5

// averagedPipeline combines the averages of a run's checkpoints into the power-function
// average of a length: those that the run tracked for it (train.ema_profiles), or else its
// moving averages. what describes the result.
func averagedPipeline(ctx context.Context, run string, length float64) (p checkpoint.Pipeline, what string, err error) {
	if _, err := optim.PowerExponent(length); err != nil {
		return p, "", &usageError{fmt.Errorf("--ema-length: %w", err)}
	}
	store, err := rundir.Checkpoints(run)
	if err != nil {
		return p, "", err
	}
	infos, _, err := store.List() // newest first; damaged ones are left out
	if err != nil {
		return p, "", err
	}
	slices.Reverse(infos)
	infos = slices.DeleteFunc(infos, func(i checkpoint.Info) bool { return i.Updates == 0 })
	infos = slices.CompactFunc(infos, func(a, b checkpoint.Info) bool { return a.Updates == b.Updates })
	if len(infos) == 0 {
		return p, "", fmt.Errorf("%s: no checkpoint has an update", run)
	}
	at := make([]int64, len(infos))
	for i, info := range infos {
		at[i] = info.Updates
	}
	train, err := averagesOf(ctx, infos[0])
	if err != nil {
		return p, "", err
	}
	fit, err := fitLength(at, train, length)
	if err != nil {
		return p, "", fmt.Errorf("%s: %w", run, err)
	}
	var total sum
	for i, info := range infos {
		own, err := averagesOf(ctx, info)
		if err != nil {
			return p, "", err
		}
		if own.EMADecay != train.EMADecay || !slices.Equal(own.EMAProfiles, train.EMAProfiles) {
			return p, "", fmt.Errorf("%s has train.ema_decay %g and ema_profiles %v, an earlier one %g and %v; lengths are made of averages of one kind",
				info.Path, own.EMADecay, own.EMAProfiles, train.EMADecay, train.EMAProfiles)
		}
		stored, err := storedAverages(ctx, info, train)
		if err != nil {
			return p, "", err
		}
		for k, average := range stored {
			if err := total.add(average, fit.Weights[i*len(stored)+k]); err != nil {
				return p, "", fmt.Errorf("%s: %w", info.Path, err)
			}
		}
	}
	last := infos[len(infos)-1]
	documents, _, err := checkpoint.Read(ctx, last.Path, 0)
	if err != nil {
		return p, "", err
	}
	kind := "moving averages"
	if n := len(train.EMAProfiles); n > 0 {
		kind = fmt.Sprintf("%d tracked averages", n)
	}
	return checkpoint.Pipeline{UNetConfig: documents.UNetConfig, SchedulerConfig: documents.SchedulerConfig, Tensors: total.tensors()},
		fmt.Sprintf("step %d, power-function EMA of length %g from %d checkpoints' %s (its profile is met to %.2g %%)",
			last.Step, length, len(infos), kind, 100*fit.Residual), nil
}

// averagesOf is the training section that a checkpoint was written under.
func averagesOf(ctx context.Context, info checkpoint.Info) (config.Train, error) {
	snap, _, err := checkpoint.Read(ctx, info.Path, 0)
	if err != nil {
		return config.Train{}, err
	}
	c, err := config.FromYAML(snap.Config)
	if err != nil {
		return config.Train{}, fmt.Errorf("%s: its configuration cannot be read: %w", info.Path, err)
	}
	return c.Train, nil
}

// storedAverages reads the averages that lengths are made of: those of the profiles in
// their order, or the one moving average.
func storedAverages(ctx context.Context, info checkpoint.Info, train config.Train) ([][]weights.Tensor, error) {
	if len(train.EMAProfiles) == 0 {
		snap, _, err := checkpoint.Read(ctx, info.Path, checkpoint.EMA)
		if errors.Is(err, checkpoint.ErrNoEMA) {
			return nil, fmt.Errorf("%s has no moving average (train.ema_decay 0), and lengths are made of those, or of train.ema_profiles", info.Path)
		}
		if err != nil {
			return nil, err
		}
		return [][]weights.Tensor{snap.EMA}, nil
	}
	snap, _, err := checkpoint.Read(ctx, info.Path, checkpoint.Optimizer)
	if err != nil {
		return nil, err
	}
	profiles, err := optim.NewProfiles(train.EMAProfiles)
	if err != nil {
		return nil, err
	}
	out := make([][]weights.Tensor, len(train.EMAProfiles))
	for k := range out {
		for _, t := range snap.Optimizer {
			if name, ok := strings.CutPrefix(t.Name, profiles.Slot(k)+"."); ok {
				t.Name = name
				out[k] = append(out[k], t)
			}
		}
	}
	return out, nil
}

// sum is a weighted sum of models, in float64.
type sum struct {
	of   []weights.Tensor // names and shapes
	data [][]float64
}

func (s *sum) add(model []weights.Tensor, weight float64) error {
	if s.of == nil {
		s.of = model
		for _, t := range model {
			s.data = append(s.data, make([]float64, len(t.Data)))
		}
	}
	if len(model) != len(s.of) || len(model) == 0 {
		return fmt.Errorf("an average of %d tensors, and another of %d", len(model), len(s.of))
	}
	for i, t := range model {
		if t.Name != s.of[i].Name || len(t.Data) != len(s.data[i]) {
			return fmt.Errorf("tensor %s does not fit %s of another average", t.Name, s.of[i].Name)
		}
		for j, v := range t.Data {
			s.data[i][j] += weight * float64(v)
		}
	}
	return nil
}

func (s *sum) tensors() []weights.Tensor {
	out := make([]weights.Tensor, len(s.of))
	for i, t := range s.of {
		out[i] = weights.Tensor{Name: t.Name, Shape: t.Shape, Data: make([]float32, len(s.data[i]))}
		for j, v := range s.data[i] {
			out[i].Data[j] = float32(v)
		}
	}
	return out
}

// fitLength refuses a combination that is far from what is wanted.
func fitLength(at []int64, train config.Train, length float64) (fit optim.PostHoc, err error) {
	var closer string // what would bring it closer
	if len(train.EMAProfiles) > 0 {
		profiles, err := optim.NewProfiles(train.EMAProfiles)
		if err != nil {
			return fit, err
		}
		if fit, err = optim.FitProfiles(at, profiles, length); err != nil {
			return fit, err
		}
		closer = "keep more of them (checkpoint.keep_every)"
	} else {
		if fit, err = optim.FitPowerEMA(at, train.EMADecay, length); err != nil {
			return fit, err
		}
		closer = fmt.Sprintf("train with checkpoint.keep_every of %.0f or less (1/(1 - train.ema_decay)), or with train.ema_profiles=[0.05,0.1]", 1/(1-train.EMADecay))
	}
	if fit.Residual <= worstResidual {
		return fit, nil
	}
	return fit, fmt.Errorf("its %d checkpoints are too far apart for a length of %g: the profile would be met to %.0f %% only; %s",
		len(at), length, 100*fit.Residual, closer)
}
