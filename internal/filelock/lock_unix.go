//go:build linux || darwin

package filelock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock takes the exclusive flock of an open file without waiting. It goes when
// the file is closed or the process ends, however it ends.
func Lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("flock %s: %w", f.Name(), ErrLocked)
		case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("flock %s: %w: %w", f.Name(), ErrNoLocks, err)
		default:
			return fmt.Errorf("flock %s: %w", f.Name(), err)
		}
	}
}
