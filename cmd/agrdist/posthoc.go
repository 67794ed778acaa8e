package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rundir"
)

// worstResidual is how far the profile of a combined average may be from the wanted one.
const worstResidual = 0.5

// averagedPipeline combines the moving averages of a run's checkpoints into the
// power-function average of a length. what describes the result.
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
	var fit optim.PostHoc
	var sums [][]float64
	var last *checkpoint.Snapshot
	var decay float64
	for i, info := range infos {
		snap, _, err := checkpoint.Read(ctx, info.Path, checkpoint.EMA)
		if errors.Is(err, checkpoint.ErrNoEMA) {
			return p, "", fmt.Errorf("%s has no moving average (train.ema_decay 0), and lengths are made of those", info.Path)
		}
		if err != nil {
			return p, "", err
		}
		c, err := config.FromYAML(snap.Config)
		if err != nil {
			return p, "", fmt.Errorf("%s: its configuration cannot be read: %w", info.Path, err)
		}
		if i == 0 {
			decay, sums = c.Train.EMADecay, make([][]float64, len(snap.EMA))
			if fit, err = fitLength(at, decay, length); err != nil {
				return p, "", fmt.Errorf("%s: %w", run, err)
			}
		}
		if c.Train.EMADecay != decay || len(snap.EMA) != len(sums) {
			return p, "", fmt.Errorf("%s has train.ema_decay %g, an earlier one %g; lengths are made of averages of one decay", info.Path, c.Train.EMADecay, decay)
		}
		for k, t := range snap.EMA {
			if sums[k] == nil {
				sums[k] = make([]float64, len(t.Data))
			}
			for j, v := range t.Data {
				sums[k][j] += fit.Weights[i] * float64(v)
			}
		}
		last = snap
	}
	p = checkpoint.Pipeline{UNetConfig: last.UNetConfig, SchedulerConfig: last.SchedulerConfig}
	for k, t := range last.EMA {
		out := weights.Tensor{Name: t.Name, Shape: t.Shape, Data: make([]float32, len(t.Data))}
		for j, v := range sums[k] {
			out.Data[j] = float32(v)
		}
		p.Tensors = append(p.Tensors, out)
	}
	return p, fmt.Sprintf("step %d, power-function EMA of length %g from %d checkpoints (its profile is met to %.2g %%)",
		last.Step, length, len(infos), 100*fit.Residual), nil
}

// fitLength refuses a combination that is far from what is wanted.
func fitLength(at []int64, decay, length float64) (optim.PostHoc, error) {
	fit, err := optim.FitPowerEMA(at, decay, length)
	if err != nil || fit.Residual <= worstResidual {
		return fit, err
	}
	return fit, fmt.Errorf("its %d checkpoints are too far apart for a length of %g: the profile would be met to %.0f %% only; train with checkpoint.keep_every of %.0f or less (1/(1 - train.ema_decay))",
		len(at), length, 100*fit.Residual, 1/(1-decay))
}
