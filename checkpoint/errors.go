package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

var (
	// ErrNoCheckpoint says that a directory has no checkpoint, good or bad.
	ErrNoCheckpoint = errors.New("checkpoint: no checkpoint")
	// ErrClosed says that the store has been closed.
	ErrClosed = errors.New("checkpoint: store closed")
	// ErrNoEMA says that averaged weights are wanted and there are none.
	ErrNoEMA = errors.New("checkpoint: no EMA weights")
)

// Skipped is a checkpoint that was passed over, and why.
type Skipped struct {
	Step   int64
	Path   string
	Reason error
}

// NoneValidError says that there are checkpoints and none of them is good. It
// is never mistaken for a fresh start.
type NoneValidError struct {
	Dir     string
	Skipped []Skipped // newest first
}

// Error lists every checkpoint with its reason, in one line.
func (e *NoneValidError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "checkpoint: none of the %d checkpoints in %s is good:", len(e.Skipped), e.Dir)
	for i, s := range e.Skipped {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " step %d: %v", s.Step, s.Reason)
	}
	b.WriteString("; restore one from a copy, or move the directory away to start afresh")
	return b.String()
}

// Unwrap returns the reasons.
func (e *NoneValidError) Unwrap() []error {
	errs := make([]error, len(e.Skipped))
	for i, s := range e.Skipped {
		errs[i] = s.Reason
	}
	return errs
}

// SaveError says what could not be saved, where it failed, how to fix it and
// what is still there.
type SaveError struct {
	Step   int64
	Op     string // "write", "rename", ...
	Path   string
	Err    error
	Advice string // "" where there is none
	Intact int64  // the newest other checkpoint, -1 for none
}

// Error gives one line.
func (e *SaveError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "checkpoint: save step %d: ", e.Step)
	if e.Op != "" {
		fmt.Fprintf(&b, "%s %s: ", e.Op, e.Path)
	}
	b.WriteString(e.Err.Error())
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	if e.Intact >= 0 {
		fmt.Fprintf(&b, "; the checkpoint of step %d is untouched", e.Intact)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *SaveError) Unwrap() error { return e.Err }

// newSaveError takes operation and path out of the cause where they are in it.
func newSaveError(step, intact int64, err error, advice string) *SaveError {
	e := &SaveError{Step: step, Err: err, Advice: advice, Intact: intact}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		e.Op, e.Path, e.Err = pe.Op, pe.Path, pe.Err
	}
	return e
}

// advise says how to fix what an error of the operating system reports.
func advise(err error, dir string, need int64, keep int) string {
	switch {
	case errors.Is(err, syscall.ENOSPC) && outOfInodes(dir, need):
		return fmt.Sprintf("the volume of %s has room, but no inodes for more files: remove files there (df -i shows how many), or write to another one", dir)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		s := fmt.Sprintf("free %s on the volume of %s, or write to another one", size(need), dir)
		if keep != 1 {
			s += fmt.Sprintf(", or keep fewer checkpoints (now %s)", keepText(keep))
		}
		return s
	case errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("the volume of %s is read-only: remount it for writing or choose another run directory", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("give this user the right to write in %s or choose another run directory", dir)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Sprintf("something that is no checkpoint is in the way in %s: move it away", dir)
	case errors.Is(err, syscall.EIO):
		return fmt.Sprintf("the device under %s reports faults: check it and write elsewhere", dir)
	}
	return ""
}

// also adds a second error to a first, in one line; errors.Join makes two.
func also(err, second error) error {
	switch {
	case second == nil:
		return err
	case err == nil:
		return second
	}
	return fmt.Errorf("%w; also: %w", err, second)
}

func keepText(keep int) string {
	if keep <= 0 {
		return "all"
	}
	return fmt.Sprint(keep)
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
