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
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/internal/vfs"
)

// save writes, verifies and installs a checkpoint, then lets old ones go. The
// caller holds the slot.
func (s *Store) save(ctx context.Context, snap *Snapshot) (Info, error) {
	info, err := s.write(ctx, snap)
	if err != nil {
		err = newSaveError(snap.Step, s.newestBut(snap.Step), err, advise(err, s.dir, snapshotBytes(snap), s.opts.Keep))
		info = Info{Manifest: Manifest{Step: snap.Step}}
	} else {
		s.good[snap.Step] = true
		s.retain(ctx, snap.Step)
	}
	if s.opts.OnSaved != nil {
		s.opts.OnSaved(info, err)
	}
	return info, err
}

func snapshotBytes(snap *Snapshot) int64 {
	var n int64
	for _, list := range [][]Tensor{snap.Model, snap.EMA, snap.Optimizer} {
		for _, t := range list {
			n += 4 * int64(len(t.Data))
		}
	}
	return n
}

// newestBut returns the newest checkpoint other than that of step, or -1.
func (s *Store) newestBut(step int64) int64 {
	list, err := s.candidates()
	if err != nil {
		return -1
	}
	for _, c := range list {
		if c.step != step {
			return c.step
		}
	}
	return -1
}

func (s *Store) check(snap *Snapshot) error {
	if err := snap.Validate(); err != nil {
		return err
	}
	if s.opts.RequireEMA && len(snap.EMA) == 0 {
		return fmt.Errorf("the configuration has an EMA, the state has none: %w", ErrNoEMA)
	}
	return nil
}

func (s *Store) write(ctx context.Context, snap *Snapshot) (_ Info, err error) {
	if err := s.check(snap); err != nil {
		return Info{}, err
	}
	if err := s.prepare(ctx); err != nil {
		return Info{}, err
	}
	if info, ok := s.same(ctx, snap); ok {
		return info, nil
	}
	tmp, lock, err := s.makeTmp(snap.Step)
	if err != nil {
		return Info{}, err
	}
	defer func() {
		if err != nil {
			if rmErr := s.fs.RemoveAll(tmp); rmErr != nil {
				s.log.LogAttrs(ctx, slog.LevelWarn, "unfinished checkpoint not removed", slog.String("path", tmp), slog.Any("reason", rmErr))
			}
		}
		if lock != nil {
			if closeErr := lock.Close(); closeErr != nil {
				s.log.LogAttrs(ctx, slog.LevelWarn, "lock not given back", slog.String("path", tmp), slog.Any("reason", closeErr))
			}
		}
	}()
	m, err := s.writeFiles(ctx, tmp, snap)
	if err != nil {
		return Info{}, err
	}
	// What the disk gives back decides, before the checkpoint gets its name.
	_, info, err := s.reading(tmp, All, false).run(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("read back: %w", err)
	}
	if info.Checksum != m.Checksum {
		return Info{}, fmt.Errorf("read back: %s is not what was written", ManifestFile)
	}
	info.Path = filepath.Join(s.dir, DirName(snap.Step))
	return info, s.install(ctx, tmp, info.Path)
}

// prepare makes the directory and clears away what dead processes left.
func (s *Store) prepare(ctx context.Context) error {
	if err := makeDir(s.fs, s.dir); err != nil {
		return err
	}
	return s.tidy(ctx)
}

// Tidy clears away what dead processes left of saves and removals; a checkpoint that was
// being replaced gets its name back. Every save begins with it. The caller has the right
// to write.
func (s *Store) Tidy(ctx context.Context) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	if there, err := s.fs.Exists(s.dir); err != nil || !there {
		return err
	}
	if err := s.tidy(ctx); err != nil {
		return fmt.Errorf("checkpoint: tidy %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) tidy(ctx context.Context) error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(names, func(n string) bool { kind, _ := leftover(n); return kind != "" }) {
		return nil
	}
	// The dead may not have come to this: their renames go before what follows from
	// them.
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.clear(name); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "leftover not cleared", slog.String("path", filepath.Join(s.dir, name)), slog.Any("reason", err))
		}
	}
	return nil
}

// makeDir makes a directory with its parents, and makes their names durable.
func makeDir(fsys vfs.FS, dir string) error {
	there, err := fsys.Exists(dir)
	if err != nil || there {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir); err != nil { // no error if another process was faster
		return err
	}
	return fsys.SyncDir(parent)
}

// clear removes a leftover, if name is one and nobody alive works on it; a
// replaced checkpoint whose successor never came gets its name back.
func (s *Store) clear(name string) error {
	path := filepath.Join(s.dir, name)
	switch kind, step := leftover(name); kind {
	case replacedPrefix:
		there, err := s.fs.Exists(filepath.Join(s.dir, step))
		if err != nil {
			return err
		}
		if !there {
			return s.fs.Rename(path, filepath.Join(s.dir, step))
		}
		return s.fs.RemoveAll(path)
	case tmpPrefix, trashPrefix:
		lock, err := s.fs.LockDir(path)
		if errors.Is(err, vfs.ErrLocked) {
			return nil
		}
		if err != nil {
			return err
		}
		return also(s.fs.RemoveAll(path), lock.Close())
	}
	return nil
}

// same tells whether the checkpoint of this step is there already and good.
func (s *Store) same(ctx context.Context, snap *Snapshot) (Info, bool) {
	path := filepath.Join(s.dir, DirName(snap.Step))
	if there, err := s.fs.Exists(path); err != nil || !there {
		return Info{}, false
	}
	_, info, err := s.reading(path, All, false).run(ctx)
	if err != nil || info.Updates != snap.Updates || info.Seed != snap.Seed || info.ConfigHash != snap.ConfigHash ||
		info.DataCursor != snap.DataCursor || info.ModelDigest != Digest(snap) {
		return Info{}, false
	}
	return info, true
}

// makeTmp makes a directory that shows by its lock that its writer lives; the
// process id in the name is for people. The lock is nil where there are none.
func (s *Store) makeTmp(step int64) (string, io.Closer, error) {
	for {
		s.tmpSeq++
		tmp := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d-%d", tmpPrefix, DirName(step), os.Getpid(), s.tmpSeq))
		err := s.fs.Mkdir(tmp)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		lock, err := s.fs.LockDir(tmp)
		if err != nil && !errors.Is(err, vfs.ErrNoLocks) {
			return "", nil, also(err, s.fs.RemoveAll(tmp))
		}
		return tmp, lock, nil
	}
}

func (s *Store) writeFiles(ctx context.Context, tmp string, snap *Snapshot) (*Manifest, error) {
	m := &Manifest{
		Format: manifestFormat, Version: manifestVersion,
		Step: snap.Step, Updates: snap.Updates, Seed: snap.Seed, ConfigHash: snap.ConfigHash, DataCursor: snap.DataCursor,
		HasEMA: len(snap.EMA) > 0, Created: s.opts.Now().UTC(), AgrdistVersion: s.opts.Version, Meta: snap.Meta,
	}
	add := func(name string, tensors int, fill func(io.Writer) error) error {
		f, err := s.writeFile(ctx, filepath.Join(tmp, name), fill)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.Tensors = tensors
		m.Files = append(m.Files, f)
		return nil
	}
	digest := sha256.New()
	for _, name := range fileOrder {
		var err error
		switch name {
		case ConfigFile, UNetFile, SchedulerFile:
			text := map[string][]byte{ConfigFile: snap.Config, UNetFile: snap.UNetConfig, SchedulerFile: snap.SchedulerConfig}[name]
			if text != nil {
				err = add(name, 0, func(w io.Writer) error {
					_, err := w.Write(text)
					return err
				})
			}
		default:
			list := map[string][]Tensor{ModelFile: snap.Model, EMAFile: snap.EMA, OptimizerFile: snap.Optimizer}[name]
			if name != EMAFile || m.HasEMA {
				err = add(name, len(list), func(w io.Writer) error { return writeTensors(w, list, digest) })
			}
		}
		if err != nil {
			return nil, err
		}
	}
	m.ModelDigest = hexSum(digest)
	text, err := m.encode()
	if err != nil {
		return nil, err
	}
	if _, err := s.writeFile(ctx, filepath.Join(tmp, ManifestFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	written, err := decodeManifest(text) // a manifest that could not be read is not worth a rename
	if err != nil {
		return nil, err
	}
	return written, s.fs.SyncDir(tmp)
}

// writeTensors writes a list in the order of the names, which is that of the
// digest.
func writeTensors(w io.Writer, list []Tensor, digest hash.Hash) error {
	out := make([]safetensors.Tensor, len(list))
	for i, t := range list {
		out[i] = safetensors.Tensor{Name: t.Name, DType: safetensors.F32, Shape: t.Shape, Data: safetensors.Float32s(t.Data)}
	}
	// "format": the framework whose layouts these are; loaders ask for it.
	return safetensors.WriteHooked(w, out, map[string]string{"format": "pt"}, digest)
}

// writeFile writes and syncs one file.
func (s *Store) writeFile(ctx context.Context, path string, fill func(io.Writer) error) (_ FileInfo, err error) {
	f, err := s.fs.Create(path)
	if err != nil {
		return FileInfo{}, err
	}
	defer func() { err = also(err, f.Close()) }()
	sum := sha256.New()
	out := &countingWriter{ctx: ctx.Err, w: f}
	buf := bufio.NewWriterSize(out, 32<<10)
	if err := fill(io.MultiWriter(buf, sum)); err != nil {
		return FileInfo{}, err
	}
	if err := buf.Flush(); err != nil {
		return FileInfo{}, err
	}
	if err := f.Sync(); err != nil {
		return FileInfo{}, err
	}
	return FileInfo{Name: filepath.Base(path), Size: out.n, SHA256: hexSum(sum)}, nil
}

// countingWriter counts, and stops when its context is cancelled.
type countingWriter struct {
	ctx func() error
	w   io.Writer
	n   int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	if err := c.ctx(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// install gives the finished directory its name. A checkpoint of the same step,
// which then is damaged or of another history, is moved aside for the moment:
// at no time is there less than one of the two.
func (s *Store) install(ctx context.Context, tmp, final string) error {
	there, err := s.fs.Exists(final)
	if err != nil {
		return err
	}
	aside := filepath.Join(s.dir, replacedPrefix+filepath.Base(final))
	if there {
		if err := s.fs.Rename(final, aside); err != nil {
			return err
		}
	}
	if err := s.fs.Rename(tmp, final); err != nil {
		if there {
			err = also(err, s.fs.Rename(aside, final))
		}
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	if there {
		if err := s.fs.RemoveAll(aside); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "replaced checkpoint not removed", slog.String("path", aside), slog.Any("reason", err))
		}
	}
	return nil
}
