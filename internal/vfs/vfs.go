// Package vfs is the file system as those parts see it that promise something about
// crashes: the checkpoint store and the small documents of package sealed. It has the
// dozen calls that they make and no more.
//
// Its one idea: what is promised about crashes and full disks can be tested only if
// every call can be made to fail, or to be the last one. OS is
// the real file system; package vfstest has one in memory that forgets what was
// not synced, and a wrapper that fails the n-th call.
//
// It is not a general abstraction: no seeking, no appending, no permissions.
package vfs

import (
	"errors"
	"io"
	"io/fs"

	"github.com/agrdist/agrdist/internal/filelock"
)

// ErrLocked says that another process, or another handle, holds the lock.
var ErrLocked = filelock.ErrLocked

// ErrNoLocks says that the file system or the platform has no locks.
var ErrNoLocks = filelock.ErrNoLocks

// FS is a file system. Paths are those of the operating system. Errors name the
// operation and the path, as *fs.PathError does.
type FS interface {
	// MkdirAll makes a directory and its parents; one that exists is no error.
	MkdirAll(dir string) error
	// Mkdir makes one directory that must not exist.
	Mkdir(dir string) error
	// Create makes a file that must not exist.
	Create(path string) (File, error)
	// Open opens a regular file to read; anything else is an error.
	Open(path string) (Reader, error)
	// ReadDir lists the names in a directory, sorted.
	ReadDir(dir string) ([]string, error)
	// Exists tells whether there is anything at path, not following a link.
	Exists(path string) (bool, error)
	// Rename moves a file or directory. A file replaces a file of the new name, a
	// directory an empty directory.
	Rename(from, to string) error
	// RemoveAll removes path and what is below; nothing there is no error.
	RemoveAll(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// LockDir takes the lock of a directory without waiting: ErrLocked if it
	// is held, by anybody. Closing, or the end of the process, gives it back.
	LockDir(dir string) (io.Closer, error)
}

// File is a file being written.
type File interface {
	io.WriteCloser
	// Sync makes what was written durable.
	Sync() error
}

// Reader is a file being read.
type Reader interface {
	io.ReadCloser
	// Size returns the length in bytes.
	Size() int64
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, path string, limit int64) (b []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("the file is too large")}
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}
