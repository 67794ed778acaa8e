package checkpoint

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/internal/vfs"
)

// Parts says which tensors to read.
type Parts uint8

// The parts of a checkpoint.
const (
	Model Parts = 1 << iota
	EMA
	Optimizer
	All = Model | EMA | Optimizer
)

// Info describes a checkpoint on disk.
type Info struct {
	Path string
	Manifest
}

// Read reads the parts of the checkpoint in directory dir and verifies every
// file that it reads: size, SHA-256, format, and with All also that the tensors
// belong together and have the manifest's digest. Parts that are not asked for
// stay nil. EMA alone of a checkpoint that has none is ErrNoEMA.
func Read(ctx context.Context, dir string, parts Parts) (*Snapshot, Info, error) {
	r := reading{fs: vfs.OS{}, dir: dir, parts: parts, keep: true}
	snap, info, err := r.run(ctx)
	if err != nil {
		return nil, Info{}, fmt.Errorf("checkpoint: %s: %w", dir, err)
	}
	return snap, info, nil
}

// Verify reads everything in directory dir, as Read with All does, and keeps
// nothing of it.
func Verify(ctx context.Context, dir string) (Info, error) {
	r := reading{fs: vfs.OS{}, dir: dir, parts: All}
	_, info, err := r.run(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("checkpoint: %s: %w", dir, err)
	}
	return info, nil
}

// reading is one pass over a checkpoint.
type reading struct {
	fs         vfs.FS
	dir        string
	parts      Parts
	keep       bool // the tensors' data, not only names and shapes
	requireEMA bool
}

func (r reading) run(ctx context.Context) (*Snapshot, Info, error) {
	m, err := readManifest(r.fs, r.dir)
	if err != nil {
		return nil, Info{}, err
	}
	if step, ok := parseStep(filepath.Base(r.dir)); ok && step != m.Step {
		return nil, Info{}, fmt.Errorf("%s is of step %d: the directory was renamed", ManifestFile, m.Step)
	}
	if !m.HasEMA && (r.requireEMA || r.parts == EMA) {
		return nil, Info{}, fmt.Errorf("step %d: %w", m.Step, ErrNoEMA)
	}
	s := &Snapshot{
		Step: m.Step, Updates: m.Updates, Seed: m.Seed, ConfigHash: m.ConfigHash,
		DataCursor: m.DataCursor, Meta: m.Meta,
	}
	digest := sha256.New()
	for _, f := range m.Files {
		switch f.Name {
		case ConfigFile:
			s.Config, err = r.document(f)
		case UNetFile:
			s.UNetConfig, err = r.document(f)
		case SchedulerFile:
			s.SchedulerConfig, err = r.document(f)
		case ModelFile:
			s.Model, err = r.tensors(ctx, f, Model, digest)
		case EMAFile:
			s.EMA, err = r.tensors(ctx, f, EMA, digest)
		case OptimizerFile:
			s.Optimizer, err = r.tensors(ctx, f, Optimizer, digest)
		}
		if err != nil {
			return nil, Info{}, err
		}
	}
	if r.parts == All {
		if err := checkSets(s.Model, s.EMA, s.Optimizer); err != nil {
			return nil, Info{}, err
		}
		if got := hexSum(digest); got != m.ModelDigest {
			return nil, Info{}, fmt.Errorf("model digest is %.12s, the manifest says %.12s", got, m.ModelDigest)
		}
	}
	return s, Info{Path: r.dir, Manifest: *m}, nil
}

func readManifest(fsys vfs.FS, dir string) (*Manifest, error) {
	text, err := vfs.ReadFile(fsys, filepath.Join(dir, ManifestFile), ManifestLimit)
	if errors.Is(err, fs.ErrNotExist) {
		if there, existsErr := fsys.Exists(dir); existsErr == nil && there {
			return nil, errNoManifest
		}
	}
	if err != nil {
		return nil, err
	}
	return decodeManifest(text)
}

// open opens a file of the manifest after a look at its size.
func (r reading) open(f FileInfo) (vfs.Reader, error) {
	file, err := r.fs.Open(filepath.Join(r.dir, f.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: %w", f.Name, err)
	}
	if err != nil {
		return nil, err
	}
	if file.Size() != f.Size {
		return nil, also(fmt.Errorf("%s has %d bytes, the manifest says %d", f.Name, file.Size(), f.Size), file.Close())
	}
	return file, nil
}

func sumError(f FileInfo, h hash.Hash) error {
	if got := hexSum(h); got != f.SHA256 {
		return fmt.Errorf("%s has SHA-256 %.12s, the manifest says %.12s: the file is damaged", f.Name, got, f.SHA256)
	}
	return nil
}

func (r reading) document(f FileInfo) (text []byte, err error) {
	file, err := r.open(f)
	if err != nil {
		return nil, err
	}
	defer func() { err = also(err, file.Close()) }()
	if f.Size > documentLimit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", f.Name, f.Size, documentLimit)
	}
	text = make([]byte, f.Size)
	if _, err := io.ReadFull(file, text); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	h := sha256.New()
	h.Write(text)
	return text, sumError(f, h)
}

// tensors reads a tensor file front to back: its bytes go through the file's
// SHA-256, and those of the data through the digest of the state as well.
func (r reading) tensors(ctx context.Context, f FileInfo, part Parts, digest hash.Hash) (list []Tensor, err error) {
	if r.parts&part == 0 {
		return nil, nil
	}
	file, err := r.open(f)
	if err != nil {
		return nil, err
	}
	defer func() { err = also(err, file.Close()) }()
	sum := sha256.New()
	data := &gate{w: digest}
	src := io.TeeReader(io.TeeReader(bufio.NewReaderSize(file, int(min(256<<10, f.Size))), sum), data)
	dec, err := safetensors.NewDecoder(src, f.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	data.open = true
	entries := dec.Entries()
	if len(entries) != f.Tensors {
		return nil, fmt.Errorf("%s has %d tensors, the manifest says %d", f.Name, len(entries), f.Tensors)
	}
	for i, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if e.DType != safetensors.F32 || i > 0 && e.Name <= entries[i-1].Name {
			return nil, fmt.Errorf("%s: key %q: not F32 tensors in the order of their names, as this program writes them", f.Name, e.Name)
		}
		t := Tensor{Name: e.Name, Shape: e.Shape}
		if r.keep {
			t.Data = make([]float32, e.Len())
			err = dec.Float32(t.Data)
		} else {
			err = dec.Skip()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		list = append(list, t)
	}
	return list, sumError(f, sum)
}

// gate lets nothing through until it is open.
type gate struct {
	w    io.Writer
	open bool
}

func (g *gate) Write(p []byte) (int, error) {
	if !g.open {
		return len(p), nil
	}
	return g.w.Write(p)
}
