package checkpoint

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
)

// Adopt installs the checkpoint of a step that comes from elsewhere. fill calls put for
// each of its files, manifest.json last. What arrives is treated as what this store
// writes: synced, read back in full, compared with its manifest, and only then named.
func (s *Store) Adopt(ctx context.Context, step int64, fill func(put func(name string, from io.Reader) error) error) (_ Info, err error) {
	if err := s.acquire(ctx); err != nil {
		return Info{}, err
	}
	defer s.release()
	if err := s.prepare(ctx); err != nil {
		return Info{}, err
	}
	tmp, lock, err := s.makeTmp(step)
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
			_ = lock.Close() // it ends with the process at the latest
		}
	}()
	if err := fill(func(name string, from io.Reader) error {
		_, err := s.writeFile(ctx, filepath.Join(tmp, name), func(w io.Writer) error {
			_, err := io.Copy(w, from)
			return err
		})
		return err
	}); err != nil {
		return Info{}, err
	}
	if err := s.fs.SyncDir(tmp); err != nil {
		return Info{}, err
	}
	_, info, err := s.reading(tmp, All, false).run(ctx)
	if err != nil {
		return Info{}, err
	}
	if info.Step != step {
		return Info{}, fmt.Errorf("%s is of step %d, not of step %d", ManifestFile, info.Step, step)
	}
	info.Path = filepath.Join(s.dir, DirName(step))
	return info, s.install(ctx, tmp, info.Path)
}
