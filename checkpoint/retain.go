package checkpoint

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// leftover splits the name of something that a crash may have left into its
// kind and the name of the checkpoint; the kind is "" for anything else.
func leftover(name string) (kind, step string) {
	for _, prefix := range []string{tmpPrefix, trashPrefix, replacedPrefix} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if prefix == replacedPrefix {
			if _, ok := parseStep(rest); ok {
				return prefix, rest
			}
			continue
		}
		parts := strings.SplitN(rest, "-", 3) // step-N-PID...
		if len(parts) == 3 {
			if _, ok := parseStep(parts[0] + "-" + parts[1]); ok {
				return prefix, parts[0] + "-" + parts[1]
			}
		}
	}
	return "", ""
}

// retain lets go of what is older than the Keep newest good checkpoints, of
// which that of step, just verified, is one. Damaged ones do not count, and go
// when they are older than those kept; later steps than this one, left from
// another history of the run, are not touched. Failures are logged: nothing is
// lost by keeping too much.
func (s *Store) retain(ctx context.Context, step int64) {
	if s.opts.Keep <= 0 {
		return
	}
	list, err := s.candidates()
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "old checkpoints kept", slog.Any("reason", err))
		return
	}
	kept := 0
	for _, c := range list {
		switch {
		case c.step > step:
			if !s.laterSeen {
				s.laterSeen = true
				s.log.LogAttrs(ctx, slog.LevelWarn, "checkpoint of a later step left alone", slog.String("path", c.path))
			}
		case kept < s.opts.Keep:
			if s.isGood(ctx, c) {
				kept++
			}
		case s.opts.Pinned != nil && s.opts.Pinned(c.step):
		default:
			if err := s.remove(c); err != nil {
				s.log.LogAttrs(ctx, slog.LevelWarn, "old checkpoint not removed", slog.String("path", c.path), slog.Any("reason", err))
			}
		}
	}
}

// isGood verifies a checkpoint the first time it is asked about.
func (s *Store) isGood(ctx context.Context, c candidate) bool {
	ok, known := s.good[c.step]
	if !known {
		_, _, err := s.reading(c.path, All, false).run(ctx)
		if ctx.Err() != nil {
			return false
		}
		if ok = err == nil; !ok {
			s.log.LogAttrs(ctx, slog.LevelWarn, "damaged checkpoint does not count", slog.String("path", c.path), slog.Any("reason", err))
		}
		s.good[c.step] = ok
	}
	return ok
}

// remove takes the name first, for good: a half deleted directory is never a
// checkpoint, even if the power goes.
func (s *Store) remove(c candidate) error {
	trash := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d", trashPrefix, DirName(c.step), os.Getpid()))
	if err := s.fs.RemoveAll(trash); err != nil {
		return err
	}
	if err := s.fs.Rename(c.path, trash); err != nil {
		return err
	}
	delete(s.good, c.step)
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	return s.fs.RemoveAll(trash)
}
