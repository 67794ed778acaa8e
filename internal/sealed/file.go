package sealed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"

	"github.com/agrdist/agrdist/internal/vfs"
)

// sequence makes the names of this process's temporary files differ.
var sequence atomic.Int64

// temporary is the name of a file that is being written: .NAME.PID-N.tmp.
var temporary = regexp.MustCompile(`^\..+\.[0-9]+-[0-9]+\.tmp$`)

// Read fills v from the document at path; see Unmarshal. The error is about the file's
// contents, for the caller to complete, or names the file.
func Read(fsys vfs.FS, path string, v any) (checked bool, err error) {
	text, err := vfs.ReadFile(fsys, path, Limit)
	if err != nil {
		return false, err
	}
	return Unmarshal(text, v)
}

// Write replaces the document at path, or makes it. See Replace.
func Write(fsys vfs.FS, path string, v any) error {
	text, err := Marshal(v)
	if err != nil {
		return err
	}
	return Replace(fsys, path, text)
}

// Replace replaces the file at path, or makes it. After a crash it is the old or the new
// one, whole; after a return without an error the new one, and after an error about
// syncing the directory nobody knows which.
func Replace(fsys vfs.FS, path string, text []byte) error {
	for try := 0; ; try++ {
		err := replace(fsys, path, text)
		// A process that starts in the same directory may have swept the temporary file
		// away. That happens at starts only.
		if errors.Is(err, errSwept) && try < 3 {
			continue
		}
		return err
	}
}

var errSwept = errors.New("the temporary file is gone")

func replace(fsys vfs.FS, path string, text []byte) (err error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	tmp, f, err := create(fsys, dir, base)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		if err = fsys.Rename(tmp, path); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", errSwept, err)
		}
	}
	if err != nil {
		if rmErr := fsys.RemoveAll(tmp); rmErr != nil {
			err = fmt.Errorf("%w; also: %w", err, rmErr)
		}
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("%s is replaced, but may be the old one again after a power cut: %w", path, err)
	}
	return nil
}

func create(fsys vfs.FS, dir, base string) (tmp string, f vfs.File, err error) {
	for {
		tmp = filepath.Join(dir, fmt.Sprintf(".%s.%d-%d.tmp", base, os.Getpid(), sequence.Add(1)))
		if f, err = fsys.Create(tmp); !errors.Is(err, fs.ErrExist) {
			return tmp, f, err
		}
	}
}

// Sweep removes the temporary files that killed processes left in a directory, which
// need not exist. It may take those of the living, which then begin again.
func Sweep(fsys vfs.FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if temporary.MatchString(name) {
			if err := fsys.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
