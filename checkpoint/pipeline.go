package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/internal/vfs"
)

// Pipeline is an unconditional diffusion pipeline as diffusers stores it: two
// JSON documents and the UNet's weights by key.
type Pipeline struct {
	UNetConfig      []byte // unet/config.json, a UNet2DModel
	SchedulerConfig []byte // scheduler/scheduler_config.json; nil after Import of a bare UNet
	Tensors         []Tensor
	// Variant is the element type of the weights' file: "" is float32,
	// "fp16" and "bf16" round to nearest and go into the file's name.
	Variant string
}

// ErrPipeline is matched by errors about a directory that is no pipeline this
// program can read, and about a pipeline that it cannot write.
var ErrPipeline = errors.New("checkpoint: unsupported diffusers pipeline")

const (
	indexFile     = "model_index.json"
	schedulerFile = "scheduler_config.json"
	unetFile      = "config.json"
	weightsName   = "diffusion_pytorch_model"
	unetClass     = "UNet2DModel"
)

var variants = []struct {
	name  string
	dtype safetensors.DType
}{{"", safetensors.F32}, {"fp16", safetensors.F16}, {"bf16", safetensors.BF16}}

func weightsFile(variant, ext string) string {
	if variant != "" {
		variant = "." + variant
	}
	return weightsName + variant + ext
}

// The pipeline class that goes with a scheduler.
var pipelineOf = map[string]string{"DDPMScheduler": "DDPMPipeline", "DDIMScheduler": "DDIMPipeline"}

// Pipeline returns the averaged weights of the snapshot with its two documents,
// or the raw weights. Without averaged weights the error is ErrNoEMA.
func (s *Snapshot) Pipeline(raw bool) (Pipeline, error) {
	p := Pipeline{UNetConfig: s.UNetConfig, SchedulerConfig: s.SchedulerConfig, Tensors: s.EMA}
	if raw {
		p.Tensors = s.Model
	}
	if !raw && len(s.EMA) == 0 {
		return Pipeline{}, fmt.Errorf("step %d: %w: ask for the raw weights", s.Step, ErrNoEMA)
	}
	return p, nil
}

// Export writes the pipeline to directory dir, which must not exist or be
// empty: model_index.json, unet/ and scheduler/, as DiffusionPipeline's
// from_pretrained reads them. The directory appears whole or not at all.
func Export(dir string, p Pipeline) error { return export(vfs.OS{}, dir, p) }

func export(fsys vfs.FS, dir string, p Pipeline) error {
	if err := writePipeline(fsys, filepath.Clean(dir), p); err != nil {
		text := semicolon(advise(err, filepath.Dir(filepath.Clean(dir)), snapshotBytes(&Snapshot{Model: p.Tensors}), 1))
		return fmt.Errorf("checkpoint: export %s: %w%s", dir, err, text)
	}
	return nil
}

func writePipeline(fsys vfs.FS, dir string, p Pipeline) (err error) {
	index, err := modelIndex(p)
	if err != nil {
		return err
	}
	tensors, err := p.weights()
	if err != nil {
		return err
	}
	there, err := fsys.Exists(dir)
	if err != nil {
		return err
	}
	if there {
		names, err := fsys.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("%w: the directory has %q in it: choose another or empty it first", ErrPipeline, names[0])
		}
	}
	if err := makeDir(fsys, filepath.Dir(dir)); err != nil {
		return err
	}
	tmp, lock, err := exportTmp(fsys, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = also(err, fsys.RemoveAll(tmp))
		}
		if lock != nil {
			err = also(err, lock.Close())
		}
	}()
	s := open(fsys, tmp, Options{})
	for _, f := range []struct {
		path string
		fill func(io.Writer) error
	}{
		{indexFile, text(index)},
		{"scheduler/" + schedulerFile, text(p.SchedulerConfig)},
		{"unet/" + unetFile, text(p.UNetConfig)},
		{"unet/" + weightsFile(p.Variant, ".safetensors"), func(w io.Writer) error {
			return safetensors.Write(w, tensors, map[string]string{"format": "pt"})
		}},
	} {
		path := filepath.Join(tmp, filepath.FromSlash(f.path))
		if err := makeDir(fsys, filepath.Dir(path)); err != nil {
			return err
		}
		if _, err := s.writeFile(context.Background(), path, f.fill); err != nil {
			return err
		}
		if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := fsys.Rename(tmp, dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

// exportTmp makes the directory beside dir that an export is written to, with a lock that
// shows that its writer lives (nil where there are none), and removes those of the dead.
func exportTmp(fsys vfs.FS, dir string) (tmp string, lock io.Closer, err error) {
	parent, prefix := filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-"
	names, err := fsys.ReadDir(parent)
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		pid, ours := strings.CutPrefix(name, prefix)
		if _, err := strconv.Atoi(pid); !ours || err != nil {
			continue
		}
		left := filepath.Join(parent, name)
		held, err := fsys.LockDir(left)
		if err != nil {
			continue // somebody writes it, or nobody can tell
		}
		if err := also(fsys.RemoveAll(left), held.Close()); err != nil {
			return "", nil, err
		}
	}
	tmp = filepath.Join(parent, fmt.Sprintf("%s%d", prefix, os.Getpid()))
	if err := fsys.RemoveAll(tmp); err != nil { // of a dead process that had this id
		return "", nil, err
	}
	if err := fsys.Mkdir(tmp); err != nil {
		return "", nil, err
	}
	if lock, err = fsys.LockDir(tmp); err != nil && !errors.Is(err, vfs.ErrNoLocks) {
		return "", nil, also(err, fsys.RemoveAll(tmp))
	}
	return tmp, lock, nil
}

func text(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func (p *Pipeline) weights() ([]safetensors.Tensor, error) {
	if len(p.Tensors) == 0 {
		return nil, fmt.Errorf("%w: no weights", ErrPipeline)
	}
	for _, v := range variants {
		if v.name != p.Variant {
			continue
		}
		list := make([]safetensors.Tensor, len(p.Tensors))
		for i, t := range p.Tensors {
			list[i] = safetensors.Tensor{Name: t.Name, DType: v.dtype, Shape: t.Shape, Data: safetensors.Float32s(t.Data)}
		}
		_, err := safetensors.Size(list, nil) // looks at names and shapes
		return list, err
	}
	return nil, fmt.Errorf("%w: variant %q (known: fp16, bf16, or none)", ErrPipeline, p.Variant)
}

// modelIndex makes model_index.json from what the two documents say they are.
func modelIndex(p Pipeline) ([]byte, error) {
	unet, err := className(p.UNetConfig)
	if err != nil || unet.Class != unetClass {
		return nil, also(fmt.Errorf("%w: the UNet's document is of class %q, not %s", ErrPipeline, unet.Class, unetClass), err)
	}
	scheduler, err := className(p.SchedulerConfig)
	pipeline, ok := pipelineOf[scheduler.Class]
	if err != nil || !ok {
		return nil, also(fmt.Errorf("%w: the scheduler's document is of class %q, not DDPMScheduler or DDIMScheduler", ErrPipeline, scheduler.Class), err)
	}
	b, err := json.MarshalIndent(struct {
		Class     string    `json:"_class_name"`
		Version   string    `json:"_diffusers_version,omitempty"`
		Scheduler [2]string `json:"scheduler"`
		UNet      [2]string `json:"unet"`
	}{pipeline, unet.Version, [2]string{"diffusers", scheduler.Class}, [2]string{"diffusers", unetClass}}, "", "  ")
	return append(b, '\n'), err
}

type document struct {
	Class   string `json:"_class_name"`
	Version string `json:"_diffusers_version"`
}

func className(b []byte) (document, error) {
	var d document
	if !strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		return d, errors.New("it is not a JSON object")
	}
	err := json.Unmarshal(b, &d)
	return d, err
}
