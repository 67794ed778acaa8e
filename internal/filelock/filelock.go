// Package filelock keeps two processes from writing to one file: locks that end with
// the process that has them, whatever ends it.
//
// Its one idea: the lock is on an open file, never a file whose existence is the lock,
// so nothing is left over from a process that was killed.
//
//	f, err := filelock.Open("work.part")   // ErrLocked: another process has it
//	defer f.Close()                        // gives it back
//
// A file that is removed when it is finished must be removed before it is closed.
// It does not wait for a lock, and does not know who has it.
package filelock

import (
	"errors"
	"fmt"
	"os"
)

var (
	// ErrLocked says that another process, or another handle, has the lock.
	ErrLocked = errors.New("filelock: locked")
	// ErrNoLocks says that the file system or the platform has no locks.
	ErrNoLocks = errors.New("filelock: the file system has no locks")
)

// Open opens a file for reading and writing, makes it if need be, and takes its lock
// without waiting: ErrLocked if another has it. Where there are no locks it returns the
// file without one.
func Open(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("filelock: %w", err)
		}
		if err := Lock(f); err != nil && !errors.Is(err, ErrNoLocks) {
			return nil, errors.Join(err, f.Close())
		}
		own, err := f.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("filelock: %w", err), f.Close())
		}
		// Who had the lock may have removed the file after it was opened here.
		if now, err := os.Stat(path); err == nil && os.SameFile(own, now) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("filelock: %w", err)
		}
	}
}
