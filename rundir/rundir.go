package rundir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
)

// Dir is the directory of a run.
type Dir string

// At returns the run's directory at path, made absolute: it stays the same when the
// working directory changes.
func At(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return Dir(abs), nil
}

func (d Dir) join(names ...string) string {
	return filepath.Join(append([]string{string(d)}, names...)...)
}

// Config is the resolved configuration.
func (d Dir) Config() string { return d.join("config.yaml") }

// Events is the file of events.
func (d Dir) Events() string { return d.join("events.jsonl") }

// TensorBoard is the directory of TensorBoard's event files.
func (d Dir) TensorBoard() string { return d.join("tb") }

// Samples is the directory of the sample grids.
func (d Dir) Samples() string { return d.join("samples") }

// Sample is the sample grid of a step.
func (d Dir) Sample(step int64) string { return d.join("samples", fmt.Sprintf("step-%d.png", step)) }

// Checkpoints is the directory of the checkpoints.
func (d Dir) Checkpoints() string { return d.join("checkpoints") }

// Checkpoint is the checkpoint of a step.
func (d Dir) Checkpoint(step int64) string { return d.join("checkpoints", checkpoint.DirName(step)) }

// Logs is the directory of the logs.
func (d Dir) Logs() string { return d.join("logs") }

// Log is the log of a process: its name is "agent" or "worker-S", with the node in
// front where a run has several.
func (d Dir) Log(process string) string { return d.join("logs", process+".log") }

// Debug is where the last records of workers that went wrong are kept.
func (d Dir) Debug() string { return d.join("debug") }

// Journal is the coordinator's journal.
func (d Dir) Journal() string { return d.join("coordinator.json") }

// Secret is the file with the secret that a run without one of its user's made.
func (d Dir) Secret() string { return d.join("secret") }

// Nodes is where the nodes of the run keep who they are.
func (d Dir) Nodes() string { return d.join("nodes") }

// CoordinatorAddr is the file in which a node's workers find the coordinator.
func (d Dir) CoordinatorAddr(node string) string { return d.join("coordinator-" + node + ".addr") }

// Make makes the directory, with what a run writes to from its beginning.
func (d Dir) Make() error {
	if err := os.MkdirAll(d.Logs(), 0o755); err != nil {
		return fmt.Errorf("cannot make the run's directory: %w", err)
	}
	return nil
}

// Writable tries to write where a run does, so that a directory that belongs to somebody
// else, or that a dead link stands for, is told of before the first step and not by the
// first checkpoint.
func (d Dir) Writable() error {
	for _, dir := range []string{string(d), d.Logs(), d.Checkpoints(), d.Samples(), d.TensorBoard()} {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // it will be made in the first
		}
		f, err := os.CreateTemp(dir, ".try-*.tmp")
		if err != nil {
			return unwritable(dir, err)
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return unwritable(dir, err)
		}
	}
	f, err := os.OpenFile(d.Events(), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unwritable(d.Events(), err)
	}
	return f.Close()
}

func unwritable(path string, err error) error {
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		err = cause.Err
	}
	return fmt.Errorf("the run cannot write to %s: %w; give this user the right to, or choose another directory with --out", path, err)
}

// Lock takes the right to write to the run; it ends with the process at the latest.
// checkpoint.ErrRunLocked says that another process has it. Reading needs no lock.
func (d Dir) Lock() (*checkpoint.RunLock, error) { return checkpoint.LockRun(string(d)) }

// Store opens the run's checkpoints.
func (d Dir) Store(o checkpoint.Options) *checkpoint.Store {
	return checkpoint.Open(d.Checkpoints(), o)
}

// Place names the disk that the directory is on: it is the same for two nodes if they see
// the same directory, whatever its path, and another one for a copy. A directory that has
// no name yet gets one.
func (d Dir) Place() (string, error) {
	for {
		entries, err := os.ReadDir(d.Nodes())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("name the run's directory: %w", err)
		}
		for _, e := range entries { // sorted: of two that were made at once the first counts
			if strings.HasPrefix(e.Name(), placePrefix) {
				return e.Name() + inode(filepath.Join(d.Nodes(), e.Name())), nil
			}
		}
		if err := os.MkdirAll(filepath.Join(d.Nodes(), placePrefix+rand.Text()), 0o755); err != nil {
			return "", fmt.Errorf("name the run's directory: %w", err)
		}
	}
}

// placePrefix begins the name of an empty directory: making one is all or nothing on
// every file system, a network's too.
const placePrefix = "disk-"

// OneNode tells whether no more than one node has ever kept its identity here: nobody else
// writes to the directory, then, than the holder of its lock and that process's workers.
func (d Dir) OneNode() (bool, error) {
	entries, err := os.ReadDir(d.Nodes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for the nodes of the run: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) != ".json" })
	return len(entries) <= 1, nil
}

// Tidy removes what killed processes left unfinished in the directory: temporary files,
// and, if nobody else can be writing any, temporary directories of checkpoints.
func (d Dir) Tidy(ctx context.Context, alone bool) error {
	var errs []error
	for _, dir := range []string{string(d), d.Nodes(), d.join("data")} {
		errs = append(errs, sealed.Sweep(vfs.OS{}, dir))
	}
	if alone {
		errs = append(errs, d.Store(checkpoint.Options{}).Tidy(ctx))
	}
	return errors.Join(errs...)
}

// SetAside moves what an earlier run left into a new directory beside it, so that
// starting from scratch destroys nothing. It returns that directory, or "" where there
// was nothing to move. The caller holds the lock.
func (d Dir) SetAside(now time.Time) (string, error) {
	var left []string
	for _, name := range []string{"checkpoints", "samples", "events.jsonl", "eval.jsonl", "tb", "config.yaml", "coordinator.json", "debug"} {
		if _, err := os.Lstat(d.join(name)); err == nil {
			left = append(left, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot set the earlier run aside: %w", err)
		}
	}
	if len(left) == 0 || len(left) == 1 && left[0] == "config.yaml" { // a run that never began
		return "", nil
	}
	aside, err := d.free("earlier-" + now.Format("20060102-150405"))
	if err != nil {
		return "", fmt.Errorf("cannot set the earlier run aside: %w", err)
	}
	for _, name := range left {
		if err := os.Rename(d.join(name), filepath.Join(aside, name)); err != nil {
			return "", fmt.Errorf("cannot set the earlier run aside: %w", err)
		}
	}
	return aside, nil
}

// free makes a directory of that name, or of the first of name-2, name-3, ... that is
// not taken.
func (d Dir) free(name string) (string, error) {
	dir := d.join(name)
	for n := 2; ; n++ {
		err := os.Mkdir(dir, 0o755)
		if !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
		dir = d.join(fmt.Sprintf("%s-%d", name, n))
	}
}
