package rundir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/checkpoint/pytorchddpm"
	"github.com/agrdist/agrdist/nn/weights"
)

// Kind says what a directory is.
type Kind int

// Kinds of directories.
const (
	Run         Kind = iota + 1 // a run's directory, or the directory of its checkpoints
	Checkpoint                  // one checkpoint
	Pipeline                    // a diffusers directory: a pipeline, or a UNet alone
	PyTorchDDPM                 // a file of w86763777/pytorch-ddpm
)

// Foreign says whether another program wrote it: there is no configuration of a run then.
func (k Kind) Foreign() bool { return k == Pipeline || k == PyTorchDDPM }

func (k Kind) String() string {
	switch k {
	case Run:
		return "run"
	case Checkpoint:
		return "checkpoint"
	case Pipeline:
		return "diffusers directory"
	case PyTorchDDPM:
		return "checkpoint of pytorch-ddpm"
	}
	return "nothing"
}

// Why a path cannot be opened.
var (
	ErrMissing = errors.New("no such directory")
	ErrFile    = errors.New("a file, not a directory")
	ErrEmpty   = errors.New("nothing that can be read is in it")
)

const wanted = "give a run's directory, one of its checkpoints (RUN/checkpoints/step-N), a diffusers directory or a ckpt.pt of pytorch-ddpm"

// torchNames are the extensions of files that torch.save wrote.
var torchNames = []string{".pt", ".pth", ".ckpt", ".bin"}

// Find says what is at path, by names alone. Where it is none
// of the kinds, the error matches ErrMissing, ErrFile or ErrEmpty and says what to give.
// A run without any checkpoint is checkpoint.ErrNoCheckpoint.
func Find(path string) (Kind, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%s: %w; %s", path, ErrMissing, wanted)
	case err != nil:
		return 0, err
	case st.Mode().IsRegular() && slices.Contains(torchNames, filepath.Ext(path)):
		return PyTorchDDPM, nil
	case !st.IsDir():
		return 0, fmt.Errorf("%s: %w; %s", path, ErrFile, wanted)
	case has(path, checkpoint.ManifestFile), has(path, checkpoint.ModelFile): // the second alone: one cut off
		return Checkpoint, nil
	case has(path, "model_index.json"), has(path, "unet", "config.json"), has(path, "config.json"):
		return Pipeline, nil
	}
	dir, err := checkpointsOf(path)
	if err != nil {
		return 0, err
	}
	if dir != "" {
		return Run, nil
	}
	if d := Dir(path); has(d.Config()) || has(d.Checkpoints()) {
		return 0, fmt.Errorf("%w in %s: the run has not saved any yet", checkpoint.ErrNoCheckpoint, path)
	}
	return 0, fmt.Errorf("%s: %w; %s", path, ErrEmpty, wanted)
}

func has(path ...string) bool {
	_, err := os.Stat(filepath.Join(path...))
	return err == nil
}

// checkpointsOf returns the directory with the checkpoints of a run: RUN/checkpoints,
// or path itself; "" where neither has any.
func checkpointsOf(path string) (string, error) {
	for _, dir := range []string{Dir(path).Checkpoints(), path} {
		infos, bad, err := checkpoint.Open(dir, checkpoint.Options{}).List()
		if err != nil {
			return "", err
		}
		if len(infos)+len(bad) > 0 {
			return dir, nil
		}
	}
	return "", nil
}

// Checkpoints opens the checkpoints of the run at path, or in path itself, for
// reading. The errors are those of Find.
func Checkpoints(path string) (*checkpoint.Store, error) {
	kind, err := Find(path)
	if err != nil {
		return nil, err
	}
	if kind != Run {
		return nil, fmt.Errorf("%s is a %v, not a run's directory", path, kind)
	}
	dir, err := checkpointsOf(path)
	return checkpoint.Open(dir, checkpoint.Options{}), err
}

// Source is what was opened.
type Source struct {
	Kind Kind
	Path string // the checkpoint, the diffusers directory or the file that was read
	// State holds the parts that were asked for, with the configuration (YAML) and
	// diffusers' two documents (JSON). What is foreign has no configuration; its weights
	// are in State.Model, and a moving average, which pytorch-ddpm has, in State.EMA.
	State *checkpoint.Snapshot
	// Manifest describes the checkpoint; nil for what is foreign.
	Manifest *checkpoint.Manifest
	// Skipped are newer checkpoints of the run that do not verify, newest first.
	Skipped []checkpoint.Skipped
}

// Open reads parts of the newest checkpoint of a run that verifies, of one checkpoint,
// of a diffusers directory, or of a file of pytorch-ddpm. It takes no lock. Errors are those of Find, of package
// checkpoint (*checkpoint.NoneValidError, ErrNoEMA, ...) and of its Import.
func Open(ctx context.Context, path string, parts checkpoint.Parts) (*Source, error) {
	kind, err := Find(path)
	if err != nil {
		return nil, err
	}
	s := &Source{Kind: kind, Path: path}
	var info checkpoint.Info
	switch kind {
	case Pipeline:
		p, err := checkpoint.Import(path)
		if err != nil {
			return nil, err
		}
		s.State = &checkpoint.Snapshot{UNetConfig: p.UNetConfig, SchedulerConfig: p.SchedulerConfig, Model: p.Tensors}
		return s, nil
	case PyTorchDDPM:
		c, err := pytorchddpm.ReadFile(path, parts&checkpoint.EMA != 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.State = &checkpoint.Snapshot{UNetConfig: c.UNetConfig, SchedulerConfig: c.SchedulerConfig, Model: c.Net, EMA: c.EMA}
		return s, nil
	case Checkpoint:
		s.State, info, err = checkpoint.Read(ctx, path, parts)
	case Run:
		var dir string
		if dir, err = checkpointsOf(path); err != nil {
			return nil, err
		}
		s.State, info, s.Skipped, err = checkpoint.Open(dir, checkpoint.Options{}).NewestParts(ctx, parts)
	}
	if err != nil {
		return nil, err
	}
	s.Path, s.Manifest = info.Path, &info.Manifest
	return s, nil
}

// Newest reads the run's newest checkpoint that verifies, whole, as a resume does.
// Without any the error is checkpoint.ErrNoCheckpoint.
func (d Dir) Newest(ctx context.Context, o checkpoint.Options) (*Source, error) {
	snap, info, skipped, err := d.Store(o).Newest(ctx)
	if err != nil {
		return nil, err
	}
	return &Source{Kind: Run, Path: info.Path, State: snap, Manifest: &info.Manifest, Skipped: skipped}, nil
}

// OpenWeights is Open for the weights alone: averaged ones where there are any and raw
// is not set, else the raw ones.
func OpenWeights(ctx context.Context, path string, raw bool) (*Source, error) {
	if !raw {
		s, err := Open(ctx, path, checkpoint.EMA)
		if !errors.Is(err, checkpoint.ErrNoEMA) {
			return s, err
		}
	}
	return Open(ctx, path, checkpoint.Model)
}

// Averaged says whether Weights are a moving average.
func (s *Source) Averaged() bool { return len(s.State.EMA) > 0 }

// Weights returns the averaged weights where they were read, else the raw ones.
func (s *Source) Weights() []weights.Tensor {
	if s.Averaged() {
		return s.State.EMA
	}
	return s.State.Model
}
