package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
)

// CheckpointDir is where a run keeps its checkpoints.
func CheckpointDir(runDir string) string { return filepath.Join(runDir, "checkpoints") }

// OpenStore opens the checkpoints of a run.
func OpenStore(c *config.Config, runDir string, log *slog.Logger, saved func(checkpoint.Info, error)) *checkpoint.Store {
	return checkpoint.Open(CheckpointDir(runDir), checkpoint.Options{
		Keep: c.Checkpoint.Keep, RequireEMA: c.Train.EMADecay > 0, Version: version.Build(), Logger: log, OnSaved: saved,
	})
}

// store keeps the run's state in RUN/checkpoints.
type store struct {
	*checkpoint.Store
	cfg       *config.Config
	log       *slog.Logger
	unet      []byte
	scheduler []byte
}

var _ trainer.Store = (*store)(nil)

func newStore(c *config.Config, runDir string, model unet.Config, log *slog.Logger, saved func(checkpoint.Info, error)) (*store, error) {
	network, scheduler, err := setup.Documents(c, model)
	if err != nil {
		return nil, err
	}
	return &store{
		Store: OpenStore(c, runDir, log, saved), cfg: c, log: log, unet: network, scheduler: scheduler,
	}, nil
}

// Restore takes over the newest checkpoint that verifies: the run's own, or, in a
// run that has none, that of the directory named by checkpoint.resume.
func (s *store) Restore(ctx context.Context, state *trainer.State) (bool, error) {
	if s.cfg.Checkpoint.Resume == "never" {
		return false, nil
	}
	snap, info, skipped, err := s.Newest(ctx)
	for _, k := range skipped {
		s.log.Warn("checkpoint passed over", "step", k.Step, "path", k.Path, "err", k.Reason)
	}
	if errors.Is(err, checkpoint.ErrNoCheckpoint) && s.cfg.Checkpoint.Resume != "auto" {
		snap, info, err = From(ctx, s.cfg.Checkpoint.Resume, checkpoint.All)
	}
	if errors.Is(err, checkpoint.ErrNoCheckpoint) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := Fits(s.cfg, snap, info.Path); err != nil {
		return false, err
	}
	if err := state.Restore(snap); err != nil {
		return false, &config.Error{Source: info.Path, Err: err}
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
		return snap, nil
	})
}

// Begin writes the checkpoint of step 0 of a run that starts from given weights,
// and returns where it is.
func Begin(ctx context.Context, c *config.Config, weights []nn.Tensor) (string, error) {
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: 1})
	if err != nil {
		return "", err
	}
	defer func() { _ = dev.Close() }() // nothing of it is kept
	model, err := setup.Model(dev.Backend, c)
	if err != nil {
		return "", err
	}
	if err := model.Load(weights); err != nil {
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

// From reads the newest good checkpoint of a run's directory, or the checkpoint
// that path is.
func From(ctx context.Context, path string, parts checkpoint.Parts) (*checkpoint.Snapshot, checkpoint.Info, error) {
	if isCheckpoint(path) {
		return checkpoint.Read(ctx, path, parts)
	}
	for _, dir := range []string{CheckpointDir(path), path} {
		snap, info, _, err := checkpoint.Open(dir, checkpoint.Options{}).NewestParts(ctx, parts)
		if !errors.Is(err, checkpoint.ErrNoCheckpoint) {
			return snap, info, err
		}
	}
	return nil, checkpoint.Info{}, fmt.Errorf("%w in %s: it is neither a run's directory nor a checkpoint", checkpoint.ErrNoCheckpoint, path)
}

func isCheckpoint(path string) bool {
	_, err := os.Stat(filepath.Join(path, checkpoint.ManifestFile))
	return err == nil
}

// Fits holds a configuration against the one that a checkpoint was written
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
		". Use its settings, start anew with --resume never, or choose another --out"
}
