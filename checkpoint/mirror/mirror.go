package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
)

// Options of a mirror. The zero value keeps everything and logs nothing.
type Options struct {
	// Keep is the number of checkpoints to keep, the newest; 0 keeps all.
	Keep int
	// Pinned, where not nil, says which steps' checkpoints are kept whatever their age.
	Pinned func(step int64) bool
	// Logger gets what is worth knowing but no error; nil for none.
	Logger *slog.Logger
}

// Mirror is the checkpoints of one run in a bucket. Safe for concurrent use, but one
// process at a time should write.
type Mirror struct {
	bucket Bucket
	opts   Options
	log    *slog.Logger
}

// New returns the mirror in a bucket. It asks for nothing yet.
func New(b Bucket, o Options) *Mirror {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Mirror{bucket: b, opts: o, log: log}
}

// String is the mirror as people write it.
func (m *Mirror) String() string { return m.bucket.String() }

// At is where the checkpoint of a step is, as people write it.
func (m *Mirror) At(step int64) string { return m.String() + "/" + checkpoint.DirName(step) }

func key(step int64, file string) string { return path.Join(checkpoint.DirName(step), file) }

// content is what the bucket has of a step: sizes by name of file.
type content map[string]int64

func (c content) complete() bool {
	_, ok := c[checkpoint.ManifestFile]
	return ok
}

// contents lists the bucket, by step.
func (m *Mirror) contents(ctx context.Context) (map[int64]content, error) {
	all, err := m.bucket.List(ctx, "step-")
	if err != nil {
		return nil, err
	}
	out := map[int64]content{}
	for _, o := range all {
		dir, file, _ := strings.Cut(o.Key, "/")
		step, ok := checkpoint.ParseDirName(dir)
		if !ok || file == "" || strings.Contains(file, "/") {
			continue // not ours
		}
		if out[step] == nil {
			out[step] = content{}
		}
		out[step][file] = o.Size
	}
	return out, nil
}

// Steps returns the steps of the checkpoints that are there, newest first, by their
// manifests alone.
func (m *Mirror) Steps(ctx context.Context) ([]int64, error) {
	all, err := m.contents(ctx)
	if err != nil {
		return nil, err
	}
	return newestFirst(all), nil
}

func newestFirst(all map[int64]content) []int64 {
	var steps []int64
	for _, step := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		if all[step].complete() {
			steps = append(steps, step)
		}
	}
	return steps
}

// manifest reads the manifest of a step; nil where there is none that can be read.
func (m *Mirror) manifest(ctx context.Context, step int64) (*checkpoint.Manifest, []byte, error) {
	r, err := m.bucket.Get(ctx, key(step, checkpoint.ManifestFile))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(r, checkpoint.ManifestLimit))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: read %s: %w", m, key(step, checkpoint.ManifestFile), err)
	}
	parsed, err := checkpoint.ParseManifest(text)
	if err != nil {
		return nil, nil, err
	}
	return parsed, text, nil
}

// ErrGone says that a local checkpoint that was to be copied is not there any more.
var ErrGone = errors.New("mirror: the local checkpoint was removed before it was copied")

// Push copies the checkpoint in a directory, unless it is there already, and then lets
// old ones go. An error leaves nothing that passes for a checkpoint.
func (m *Mirror) Push(ctx context.Context, dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, checkpoint.ManifestFile))
	if err != nil {
		return gone(err)
	}
	local, err := checkpoint.ParseManifest(text)
	if err != nil {
		return err
	}
	all, err := m.contents(ctx)
	if err != nil {
		return err
	}
	if !m.same(ctx, local, all[local.Step]) {
		if err := m.upload(ctx, dir, local, all[local.Step]); err != nil {
			return err
		}
	}
	m.retain(ctx, local.Step, all)
	return nil
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	return err
}

// same tells whether the bucket has the files of a manifest, under that manifest.
func (m *Mirror) same(ctx context.Context, local *checkpoint.Manifest, have content) bool {
	if !have.complete() {
		return false
	}
	for _, f := range local.Files {
		if size, ok := have[f.Name]; !ok || size != f.Size {
			return false
		}
	}
	there, _, err := m.manifest(ctx, local.Step)
	return err == nil && there.Checksum == local.Checksum
}

func (m *Mirror) upload(ctx context.Context, dir string, local *checkpoint.Manifest, have content) error {
	if have.complete() { // of another history of the run: it is no checkpoint from now on
		if err := m.bucket.Delete(ctx, key(local.Step, checkpoint.ManifestFile)); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(local.Files)+1)
	for _, f := range local.Files {
		names = append(names, f.Name)
	}
	for _, name := range append(names, checkpoint.ManifestFile) {
		if err := m.bucket.Put(ctx, key(local.Step, name), filepath.Join(dir, name)); err != nil {
			return gone(err)
		}
	}
	return nil
}

// retain lets go of what is older than the Keep newest checkpoints up to that of a step,
// which is there now. Later steps, of another history of the run, are left alone.
// Failures are logged: nothing is lost by keeping too much.
func (m *Mirror) retain(ctx context.Context, step int64, all map[int64]content) {
	if m.opts.Keep <= 0 {
		return
	}
	kept := 1 // step itself
	for _, s := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		switch {
		case s >= step:
		case all[s].complete() && kept < m.opts.Keep:
			kept++
		case all[s].complete() && m.opts.Pinned != nil && m.opts.Pinned(s):
		default:
			if err := m.remove(ctx, s, all[s]); err != nil {
				m.log.Warn("old checkpoint not removed from the mirror", "at", m.At(s), "err", err)
			}
		}
	}
}

// remove takes the manifest first: what is half removed is no checkpoint.
func (m *Mirror) remove(ctx context.Context, step int64, have content) error {
	names := slices.Sorted(maps.Keys(have))
	if have.complete() {
		names = append([]string{checkpoint.ManifestFile}, names...)
	}
	for _, name := range names {
		if err := m.bucket.Delete(ctx, key(step, name)); err != nil {
			return err
		}
	}
	return nil
}

// Restore installs the newest checkpoint that verifies, of those of later steps than
// after, in a store, and returns with it the newer ones that do not. It returns false
// where there is none later; if there are some and none is good, the error is a
// *checkpoint.NoneValidError.
func (m *Mirror) Restore(ctx context.Context, store *checkpoint.Store, after int64) (_ checkpoint.Info, ok bool, skipped []checkpoint.Skipped, err error) {
	steps, err := m.Steps(ctx)
	if err != nil {
		return checkpoint.Info{}, false, nil, err
	}
	for _, step := range steps {
		if step <= after {
			break
		}
		info, err := m.fetch(ctx, store, step)
		if err == nil {
			return info, true, skipped, nil
		}
		if _, remote := errors.AsType[*Error](err); remote || ctx.Err() != nil {
			return checkpoint.Info{}, false, skipped, err // not about this checkpoint
		}
		if _, local := errors.AsType[*fs.PathError](err); local {
			return checkpoint.Info{}, false, skipped, fmt.Errorf("fetch %s: %w", m.At(step), err)
		}
		skipped = append(skipped, checkpoint.Skipped{Step: step, Path: m.At(step), Reason: err})
	}
	if len(skipped) > 0 && after < 0 && len(skipped) == len(steps) {
		return checkpoint.Info{}, false, skipped, &checkpoint.NoneValidError{Dir: m.String(), Skipped: skipped}
	}
	return checkpoint.Info{}, false, skipped, nil
}

// fetch installs the checkpoint of a step in a store.
func (m *Mirror) fetch(ctx context.Context, store *checkpoint.Store, step int64) (checkpoint.Info, error) {
	manifest, text, err := m.manifest(ctx, step)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("its manifest.json was removed meanwhile")
	}
	if err != nil {
		return checkpoint.Info{}, err
	}
	return store.Adopt(ctx, step, func(put func(string, io.Reader) error) error {
		for _, f := range manifest.Files {
			if err := m.file(ctx, step, f, put); err != nil {
				return err
			}
		}
		return put(checkpoint.ManifestFile, bytes.NewReader(text))
	})
}

func (m *Mirror) file(ctx context.Context, step int64, f checkpoint.FileInfo, put func(string, io.Reader) error) error {
	r, err := m.bucket.Get(ctx, key(step, f.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing", f.Name)
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was read
	// One byte more than there should be shows that there is more.
	return put(f.Name, io.LimitReader(r, f.Size+1))
}
