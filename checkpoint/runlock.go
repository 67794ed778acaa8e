package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agrdist/agrdist/internal/filelock"
	"github.com/agrdist/agrdist/internal/vfs"
)

// LockFile is the name of the lock in a run's directory.
const LockFile = "lock"

var (
	// ErrRunLocked says that another process writes to the run's directory.
	ErrRunLocked = errors.New("checkpoint: run directory in use")
	// ErrNoLocks says that the file system under the run's directory cannot
	// keep two runs apart.
	ErrNoLocks = errors.New("checkpoint: the file system has no locks")
)

// RunLock is the right to write to a run's directory.
type RunLock struct{ f *os.File }

// LockRun takes the lock of a run's directory, which it makes if need be. The
// lock ends with the process, whatever ends it; the file stays and holds, for
// people, who has it.
func LockRun(run string) (*RunLock, error) {
	if err := makeDir(vfs.OS{}, run); err != nil {
		return nil, fmt.Errorf("checkpoint: lock run: %w%s", err, semicolon(advise(err, run, 0, 1)))
	}
	path := filepath.Join(run, LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // G304: the run directory is the caller's. Whoever can open the file can take its lock
	if err != nil {
		return nil, fmt.Errorf("checkpoint: lock run: %w%s", err, semicolon(advise(err, run, 0, 1)))
	}
	if err := filelock.Lock(f); err != nil {
		holder := readHolder(f)
		closeErr := f.Close()
		switch {
		case errors.Is(err, vfs.ErrLocked):
			return nil, also(fmt.Errorf("%w: %s is being written by %s; stop that process or choose another directory", ErrRunLocked, run, holder), closeErr)
		case errors.Is(err, vfs.ErrNoLocks):
			return nil, also(fmt.Errorf("%w: %s: %w", ErrNoLocks, run, err), closeErr)
		}
		return nil, also(fmt.Errorf("checkpoint: lock run: %w", err), closeErr)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	text := fmt.Sprintf("pid %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	if err := f.Truncate(0); err != nil {
		return nil, also(fmt.Errorf("checkpoint: lock run: %w", err), f.Close())
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return nil, also(fmt.Errorf("checkpoint: lock run: %w%s", err, semicolon(advise(err, run, int64(len(text)), 1))), f.Close())
	}
	return &RunLock{f}, nil
}

func semicolon(s string) string {
	if s == "" {
		return ""
	}
	return "; " + s
}

func readHolder(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 300))
	line, _, _ := strings.Cut(string(b), "\n")
	if err != nil || !strings.HasPrefix(line, "pid ") {
		return "another process"
	}
	return fmt.Sprintf("%q", line)
}

// Unlock gives the directory back. The second call does nothing.
func (l *RunLock) Unlock() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	if err := also(f.Truncate(0), f.Close()); err != nil {
		return fmt.Errorf("checkpoint: unlock run: %w", err)
	}
	return nil
}
