package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agrdist/agrdist/internal/vfs"
)

// Options of a store. The zero value keeps everything and logs nothing.
type Options struct {
	// Keep is the number of good checkpoints to keep, the newest; 0 keeps all.
	Keep int
	// Pinned, where not nil, says which steps' checkpoints are kept whatever their age.
	Pinned func(step int64) bool
	// RequireEMA refuses, to save and to resume, a state without averaged
	// weights. Set it if the configuration has an EMA.
	RequireEMA bool
	// Version of the program, for the manifest.
	Version string
	// Logger gets what is worth knowing but no error; nil for none.
	Logger *slog.Logger
	// OnSaved is called after every save, also a failed one (then only
	// info.Step is set), on the goroutine that saved. nil for none.
	OnSaved func(info Info, err error)
	// Now is the clock, for the manifest; nil is time.Now.
	Now func() time.Time
}

// Store is a directory of checkpoints. Reading needs no rights beyond reading,
// and may happen in any number of processes while one of them, the holder of the
// run's lock, writes. Safe for concurrent use.
type Store struct {
	dir  string
	opts Options
	fs   vfs.FS
	log  *slog.Logger

	slot    chan struct{} // holds one token: the right to write
	staging Staging       // of the holder of the token
	good    map[int64]bool
	tmpSeq  int

	laterSeen bool // logged once

	mu      sync.Mutex
	pending error // of a background save, not collected yet
	closed  bool
}

// Open returns the store in directory dir, RUN/checkpoints. It touches nothing;
// the first save makes the directory.
func Open(dir string, opts Options) *Store { return open(vfs.OS{}, dir, opts) }

func open(fsys vfs.FS, dir string, opts Options) *Store {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{dir: dir, opts: opts, fs: fsys, log: log, slot: make(chan struct{}, 1), good: map[int64]bool{}}
}

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// A candidate is a directory that should be a checkpoint.
type candidate struct {
	step int64
	path string
}

const (
	tmpPrefix      = ".tmp-"
	trashPrefix    = ".trash-"
	replacedPrefix = ".replaced-"
)

// candidates returns the checkpoint directories, newest first. One that a
// crash left half replaced counts under the name it was moved to.
func (s *Store) candidates() ([]candidate, error) {
	names, err := s.fs.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: list %s: %w%s", s.dir, err, semicolon(advise(err, s.dir, 0, 1)))
	}
	var list []candidate
	for _, name := range names {
		base, moved := strings.CutPrefix(name, replacedPrefix)
		step, ok := parseStep(base)
		if ok && (!moved || !slices.Contains(names, base)) {
			list = append(list, candidate{step, filepath.Join(s.dir, name)})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(b.step, a.step) })
	return list, nil
}

// List returns the checkpoints, newest first, by their manifests alone, and
// those whose manifest cannot be read. Nothing else is verified.
func (s *Store) List() ([]Info, []Skipped, error) {
	list, err := s.candidates()
	if err != nil {
		return nil, nil, err
	}
	var infos []Info
	var bad []Skipped
	for _, c := range list {
		m, err := readManifest(s.fs, c.path)
		switch {
		case err == nil:
			infos = append(infos, Info{Path: c.path, Manifest: *m})
		case s.gone(c):
		default:
			bad = append(bad, Skipped{c.step, c.path, err})
		}
	}
	return infos, bad, nil
}

func (s *Store) gone(c candidate) bool {
	there, err := s.fs.Exists(c.path)
	return err == nil && !there
}

// Verify verifies every checkpoint in full, newest first.
func (s *Store) Verify(ctx context.Context) (good []Info, bad []Skipped, err error) {
	list, err := s.candidates()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range list {
		_, info, err := s.reading(c.path, All, false).run(ctx)
		switch {
		case err == nil:
			good = append(good, info)
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("checkpoint: verify: %w", ctx.Err())
		case s.gone(c):
		default:
			bad = append(bad, Skipped{c.step, c.path, err})
		}
	}
	return good, bad, nil
}

func (s *Store) reading(dir string, parts Parts, keep bool) reading {
	return reading{fs: s.fs, dir: dir, parts: parts, keep: keep, requireEMA: s.opts.RequireEMA}
}

// Newest reads the newest checkpoint that verifies in full, and returns with it
// the newer ones that do not, newest first. Without any checkpoint the error is
// ErrNoCheckpoint; if there are some and none is good, a *NoneValidError.
func (s *Store) Newest(ctx context.Context) (*Snapshot, Info, []Skipped, error) {
	return s.NewestParts(ctx, All)
}

// NewestParts is Newest for some parts only, for example EMA to sample;
// only the files read are verified.
func (s *Store) NewestParts(ctx context.Context, parts Parts) (*Snapshot, Info, []Skipped, error) {
	// A writer may delete what was listed: then look again. Each round needs
	// a whole save to have gone by, so a few rounds are plenty.
	for range 100 {
		snap, info, skipped, err := s.newest(ctx, parts)
		if !errors.Is(err, errMoved) {
			return snap, info, skipped, err
		}
	}
	return nil, Info{}, nil, fmt.Errorf("checkpoint: %s changes faster than it can be read", s.dir)
}

var errMoved = errors.New("checkpoint: deleted while being read")

func (s *Store) newest(ctx context.Context, parts Parts) (*Snapshot, Info, []Skipped, error) {
	list, err := s.candidates()
	if err != nil {
		return nil, Info{}, nil, err
	}
	if len(list) == 0 {
		return nil, Info{}, nil, fmt.Errorf("%w in %s", ErrNoCheckpoint, s.dir)
	}
	var skipped []Skipped
	for _, c := range list {
		snap, info, err := s.reading(c.path, parts, true).run(ctx)
		if err != nil && ctx.Err() == nil {
			// It may have been replaced in between: its second failure counts.
			snap, info, err = s.reading(c.path, parts, true).run(ctx)
		}
		if err == nil {
			return snap, info, skipped, nil
		}
		if ctx.Err() != nil {
			return nil, Info{}, nil, fmt.Errorf("checkpoint: read %s: %w", c.path, ctx.Err())
		}
		if s.gone(c) {
			return nil, Info{}, nil, errMoved
		}
		s.log.LogAttrs(ctx, slog.LevelWarn, "checkpoint skipped", slog.Int64("step", c.step), slog.String("path", c.path), slog.Any("reason", err))
		skipped = append(skipped, Skipped{c.step, c.path, err})
	}
	return nil, Info{}, nil, &NoneValidError{s.dir, skipped}
}
