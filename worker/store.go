package worker

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
)

// options are how a run keeps its checkpoints.
func options(c *config.Config, log *slog.Logger, saved func(checkpoint.Info, error)) checkpoint.Options {
	return checkpoint.Options{
		Keep: c.Checkpoint.Keep, Pinned: pinned(c.Checkpoint), RequireEMA: c.Train.EMADecay > 0, Version: version.Build(), Logger: log, OnSaved: saved,
	}
}

// pinned says which checkpoints stay whatever their number.
func pinned(c config.Checkpoint) func(step int64) bool {
	return func(step int64) bool {
		return slices.Contains(c.KeepAt, step) || c.KeepEvery > 0 && step%c.KeepEvery == 0
	}
}

// store keeps the run's state in RUN/checkpoints.
type store struct {
	*checkpoint.Store
	runDir    string
	cfg       *config.Config
	log       *slog.Logger
	unet      []byte
	scheduler []byte
	place     string
	meta      map[string]string // what computes; nil: nothing was computed
	otherBits bool              // a checkpoint that other kernels computed may be continued
}

var _ trainer.Store = (*store)(nil)

func newStore(c *config.Config, runDir string, model unet.Config, log *slog.Logger, saved func(checkpoint.Info, error)) (*store, error) {
	network, scheduler, err := setup.Documents(c, model)
	if err != nil {
		return nil, err
	}
	place, err := rundir.Dir(runDir).Place()
	if err != nil {
		return nil, err
	}
	return &store{
		Store: rundir.Dir(runDir).Store(options(c, log, saved)), runDir: runDir, place: place, cfg: c, log: log, unet: network, scheduler: scheduler,
	}, nil
}

// Place implements trainer.Store.
func (s *store) Place() string { return s.place }

// Restore takes over the run's newest checkpoint in this node's directory that verifies.
func (s *store) Restore(ctx context.Context, state *trainer.State) (bool, error) {
	if s.cfg.Checkpoint.Resume == "never" {
		return false, nil
	}
	snap, info, skipped, err := s.Newest(ctx)
	for _, k := range skipped {
		s.log.Warn("checkpoint passed over", "step", k.Step, "path", k.Path, "err", k.Reason)
	}
	if errors.Is(err, checkpoint.ErrNoCheckpoint) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return s.restore(state, snap, info.Path)
}

// NewestStep implements trainer.Store.
func (s *store) NewestStep() int64 {
	if s.cfg.Checkpoint.Resume == "never" {
		return -1
	}
	list, _, err := s.List()
	if err != nil || len(list) == 0 {
		return -1
	}
	return list[0].Step
}

// RestoreSource takes over the checkpoint of the directory that checkpoint.resume names.
func (s *store) RestoreSource(ctx context.Context, state *trainer.State) (bool, error) {
	resume := s.cfg.Checkpoint.Resume
	if resume == "never" || resume == "auto" {
		return false, nil
	}
	src, err := rundir.Open(ctx, resume, checkpoint.All)
	if err != nil {
		return false, &config.Error{Source: "checkpoint.resume", Err: err}
	}
	return s.restore(state, src.State, src.Path)
}

// restore takes over a checkpoint that fits the run.
func (s *store) restore(state *trainer.State, snap *checkpoint.Snapshot, path string) (bool, error) {
	if err := recipe.Fits(s.cfg, snap, path); err != nil {
		return false, err
	}
	if err := recipe.SameBits(snap, path, s.meta[recipe.MetaRounding]); err != nil && !s.otherBits {
		return false, err
	}
	if err := state.Restore(snap); err != nil {
		return false, &config.Error{Source: path, Err: err}
	}
	return true, nil
}

// Save copies the state and writes it in the background.
func (s *store) Save(ctx context.Context, state *trainer.State) error {
	return s.SaveAsyncFunc(ctx, func(g *checkpoint.Staging) (*checkpoint.Snapshot, error) {
		snap := state.Snapshot(g.Buffer)
		snap.Seed, snap.ConfigHash = s.cfg.Seed, s.cfg.Hash()
		snap.DataCursor = uint64(state.Step) * uint64(s.cfg.Train.GlobalBatch)
		snap.Config, snap.UNetConfig, snap.SchedulerConfig = s.cfg.YAML(false), s.unet, s.scheduler
		if snap.Meta == nil {
			snap.Meta = map[string]string{}
		}
		maps.Copy(snap.Meta, s.meta)
		return snap, nil
	})
}

// How often a full disk is looked at while SaveNow waits for room.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
)

// SaveNow implements trainer.Store.
func (s *store) SaveNow(ctx context.Context, state *trainer.State, wait time.Duration) (string, error) {
	_ = s.Wait(ctx) // an earlier write's failure was reported by OnSaved
	begun := time.Now()
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := s.saveOnce(ctx, state)
		left := wait - time.Since(begun)
		if err == nil {
			return rundir.Dir(s.runDir).Checkpoint(state.Step), nil
		}
		if full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT); !full || left <= 0 {
			return "", err
		}
		if pause == firstRetry {
			s.log.Warn("the disk is full: waiting for room (checkpoint.full_disk_wait)", "for", wait, "err", err)
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(min(pause, left)):
		}
	}
}

// saveOnce writes the state and waits for it, whatever happens meanwhile.
func (s *store) saveOnce(ctx context.Context, state *trainer.State) error {
	save := func() error {
		err := s.Save(ctx, state)
		if err == nil {
			err = s.Wait(context.WithoutCancel(ctx))
		}
		return err
	}
	err := save()
	if errors.Is(err, fs.ErrExist) {
		// Another worker of this node, left alone too, was faster: its checkpoint is
		// found to be the same.
		err = save()
	}
	return err
}

// Begin writes the checkpoint of step 0 of a run that starts from given weights,
// and returns where it is.
func Begin(ctx context.Context, c *config.Config, tensors []weights.Tensor) (string, error) {
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: 1})
	if err != nil {
		return "", err
	}
	defer func() { _ = dev.Close() }() // nothing of it is kept
	model, err := setup.Model(dev.Backend, c)
	if err != nil {
		return "", err
	}
	if err := model.Load(tensors); err != nil {
		return "", err
	}
	pass, err := dev.Pass(c, model.Params())
	if err != nil {
		return "", err
	}
	state, err := trainer.NewState(dev.Backend, model.Params(), pass, c.Train.EMADecay > 0)
	if err != nil {
		return "", err
	}
	copy(state.EMA, state.Values)
	s, err := newStore(c, c.Out, model.Config(), nil, nil)
	if err != nil {
		return "", err
	}
	if err := s.Save(ctx, state); err != nil {
		return "", err
	}
	return filepath.Join(s.Dir(), checkpoint.DirName(0)), s.Close()
}
