package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/checkpoint/pth"
	"github.com/agrdist/agrdist/checkpoint/safetensors"
)

// Import reads a pipeline from a directory that diffusers, or Export, wrote; or
// a bare UNet, then without a scheduler. The weights come as float32 under the
// keys of the file. Of several variants it takes float32, then fp16, then bf16.
//
// A directory may come from anywhere, so: nothing is read but safetensors, JSON and,
// where there are no safetensors, the tensors of a pickle (.bin), of which package pth
// executes no more than tensors need; no link leads out of the directory, except that in a Hugging Face cache links may lead to
// the blobs of the same repository, which is how that cache is built.
func Import(dir string) (*Pipeline, error) {
	p, err := importPipeline(dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: import %s: %w", dir, err)
	}
	return p, nil
}

func importPipeline(dir string) (p *Pipeline, err error) {
	base, sub, err := repository(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	defer func() { err = also(err, root.Close()) }()
	t := tree{root, sub}
	if err := t.checkIndex(); err != nil {
		return nil, err
	}
	// Pipelines keep the UNet in unet/; a bare one, and the first published
	// pipelines, have it at the top.
	unet, config, err := t.first("unet/"+unetFile, unetFile)
	if err != nil {
		return nil, err
	}
	p = &Pipeline{UNetConfig: config}
	doc, err := className(config)
	if err != nil || doc.Class != unetClass {
		return nil, also(fmt.Errorf("%w: %s is of class %q, not %s", ErrPipeline, unet, doc.Class, unetClass), err)
	}
	_, p.SchedulerConfig, err = t.first("scheduler/"+schedulerFile, schedulerFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return p, t.weights(path.Dir(unet), p)
}

// repository returns the directory that links may not leave, and dir in it.
func repository(dir string) (base, sub string, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	// .../models--OWNER--NAME/snapshots/REVISION -> ../../blobs/HASH
	if snapshots := filepath.Dir(abs); filepath.Base(snapshots) == "snapshots" {
		repo := filepath.Dir(snapshots)
		if st, err := os.Lstat(filepath.Join(repo, "blobs")); err == nil && st.IsDir() && strings.HasPrefix(filepath.Base(repo), "models--") {
			return repo, path.Join("snapshots", filepath.Base(abs)), nil
		}
	}
	return abs, ".", nil
}

// tree is a directory that cannot be left.
type tree struct {
	root *os.Root
	sub  string
}

// open opens a regular file and returns its size.
func (t tree) open(name string) (*os.File, int64, error) {
	full := path.Join(t.sub, name)
	st, err := t.root.Stat(full) // before opening: a named pipe would wait
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: %s is not a regular file", ErrPipeline, name)
	}
	f, err := t.root.Open(full)
	return f, st.Size(), err
}

func (t tree) exists(name string) bool {
	_, err := t.root.Stat(path.Join(t.sub, name))
	return err == nil
}

func (t tree) read(name string) (b []byte, err error) {
	f, size, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = also(err, f.Close()) }()
	if size > ManifestLimit {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrPipeline, name, size)
	}
	return io.ReadAll(io.LimitReader(f, ManifestLimit))
}

// first reads the first of the names that exists.
func (t tree) first(names ...string) (string, []byte, error) {
	for _, name := range names {
		b, err := t.read(name)
		if err == nil {
			return name, b, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("%w: there is no %s: %w", ErrPipeline, strings.Join(names, " or "), fs.ErrNotExist)
}

// checkIndex refuses a pipeline whose unet is another kind of model.
func (t tree) checkIndex() error {
	b, err := t.read(indexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var index struct {
		Class string `json:"_class_name"`
		UNet  []any  `json:"unet"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPipeline, indexFile, err)
	}
	if len(index.UNet) != 2 || index.UNet[1] != unetClass {
		return fmt.Errorf("%w: %s: a %s whose unet is %v, not %s", ErrPipeline, indexFile, index.Class, index.UNet, unetClass)
	}
	return nil
}

func (t tree) weights(dir string, p *Pipeline) error {
	for _, v := range variants {
		name := path.Join(dir, weightsFile(v.name, ".safetensors"))
		f, size, err := t.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		p.Variant = v.name
		p.Tensors, err = readWeights(f, size)
		if err = also(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	for _, v := range variants {
		name := path.Join(dir, weightsFile(v.name, ".bin"))
		f, size, err := t.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		p.Variant = v.name
		p.Tensors, err = readPickle(f, size)
		if err = also(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	return t.noWeights(dir)
}

// readPickle reads the tensors of a file that torch.save wrote.
func readPickle(f *os.File, size int64) ([]Tensor, error) {
	if err := notPointer(f); err != nil {
		return nil, err
	}
	file, err := pth.New(f, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPipeline, err)
	}
	tensors, err := file.Tensors("")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPipeline, err)
	}
	var list []Tensor
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		t := tensors[name]
		if err := finite(name, t.Data); err != nil {
			return nil, err
		}
		list = append(list, Tensor{Name: name, Shape: t.Shape, Data: t.Data})
	}
	return list, nil
}

// lfsPointer begins the files that Git leaves in the place of large ones.
const lfsPointer = "version https://git-lfs.github.com/"

func notPointer(f *os.File) error {
	head := make([]byte, len(lfsPointer))
	if n, _ := f.ReadAt(head, 0); string(head[:n]) == lfsPointer {
		return fmt.Errorf("%w: it is a pointer of Git LFS, not the weights: run git lfs install and git lfs pull in that repository", ErrPipeline)
	}
	return nil
}

func finite(name string, data []float32) error {
	for i, x := range data {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("%w: element %d of key %q is %v: the weights are damaged, or of a training that diverged", ErrPipeline, i, name, x)
		}
	}
	return nil
}

func readWeights(f *os.File, size int64) ([]Tensor, error) {
	if err := notPointer(f); err != nil {
		return nil, err
	}
	sf, err := safetensors.NewFile(f, size)
	if err != nil {
		return nil, err
	}
	var list []Tensor
	for _, name := range sf.Names() {
		switch e, _ := sf.Lookup(name); e.DType {
		case safetensors.F16, safetensors.BF16, safetensors.F32, safetensors.F64:
		case safetensors.Bool, safetensors.U8, safetensors.I8, safetensors.I16, safetensors.I32, safetensors.I64:
			return nil, fmt.Errorf("%w: key %q is %v: quantised weights are not supported", ErrPipeline, name, e.DType)
		}
		data, shape, err := sf.Float32(name)
		if err != nil {
			return nil, err
		}
		if err := finite(name, data); err != nil {
			return nil, err
		}
		list = append(list, Tensor{Name: name, Shape: shape, Data: data})
	}
	return list, nil
}

// noWeights says why there is nothing to read.
func (t tree) noWeights(dir string) error {
	for _, v := range variants {
		if index := path.Join(dir, weightsFile(v.name, ".safetensors.index.json")); t.exists(index) {
			return fmt.Errorf("%w: the weights are cut into shards (%s); save them as one file: model.save_pretrained(DIR, max_shard_size=\"100GB\")", ErrPipeline, index)
		}
	}
	return fmt.Errorf("%w: there is no %s: %w", ErrPipeline, path.Join(dir, weightsFile("", ".safetensors")), fs.ErrNotExist)
}
