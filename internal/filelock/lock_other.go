//go:build !linux && !darwin

package filelock

import (
	"fmt"
	"os"
)

// Lock says that this platform has no locks that end with the process.
func Lock(f *os.File) error { return fmt.Errorf("lock %s: %w", f.Name(), ErrNoLocks) }
