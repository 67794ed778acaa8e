//go:build unix

package supervise

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Defaults of the sizes in Config.
const (
	DefaultKillGrace   = 10 * time.Second
	DefaultMaxLine     = 16 << 10 // bytes
	DefaultMaxLogBytes = 64 << 20
	DefaultLastWords   = 20 // lines
)

var (
	// ErrConfig reports a configuration that cannot work.
	ErrConfig = errors.New("supervise: bad configuration")
	// ErrRunning reports a Start of a slot whose process is still there.
	ErrRunning = errors.New("supervise: already running")
	// ErrNotRunning reports a signal to a slot without a process.
	ErrNotRunning = errors.New("supervise: not running")
	// ErrClosed reports a Start after Close.
	ErrClosed = errors.New("supervise: closed")
	// ErrUnread reports a Start while too many exits wait to be read.
	ErrUnread = errors.New("supervise: exits are not being read")
	// ErrSurvivors reports processes that even SIGKILL did not end.
	ErrSurvivors = errors.New("supervise: processes survive SIGKILL")
)

// Command is what runs in a slot.
type Command struct {
	// Name stands before each line of output and names the log file NAME.log:
	// "rank-0". It must be a plain file name.
	Name string
	// Path is the program; without a slash it is looked up in PATH.
	Path string
	// Argv0 is the program's name as the process and ps see it; "" is Path.
	Argv0 string
	// Args are the arguments without the program's name.
	Args []string
	// Env is the whole environment; nil is this process's own. Of a variable
	// given twice, the last counts.
	Env []string
	// Keep are files that the process has open too, though it does not know of
	// them: a lock on one lasts as long as the process.
	Keep []*os.File
	// Dir is the working directory; "" is this process's own.
	Dir string
	// Input is what the process reads from Input. Unlike arguments and environment
	// it shows in no list of processes, and nothing the process starts inherits it.
	Input []byte
}

// Config describes a Supervisor.
type Config struct {
	// Command builds the command of a slot; called for every Start.
	Command func(slot int) (Command, error)
	// LogDir receives the log files and is made if missing; "" keeps none.
	LogDir string
	// Output receives whole lines, "[NAME] text\n", several in one Write and
	// never two Writes at once; nil drops them. A writer that blocks holds the
	// workers up as soon as their pipes are full.
	Output io.Writer
	// Record is called with each line that a worker writes to its record pipe
	// (Records), without the newline: one at a time for a slot, all of them before
	// its Exit; nil drops them.
	Record func(slot int, line []byte)
	// Logger receives starts and ends; nil discards them.
	Logger *slog.Logger
	// KillGrace is the time from SIGTERM to SIGKILL.
	KillGrace time.Duration
	// MaxLine is where a line of output is cut, in bytes.
	MaxLine int
	// MaxLogBytes is the size at which NAME.log becomes NAME.log.1 (replacing
	// the one before) and starts empty.
	MaxLogBytes int64
	// LastWords is how many lines of a worker's output are kept for its Exit.
	LastWords int
}

func (c Config) withDefaults() Config {
	if c.KillGrace == 0 {
		c.KillGrace = DefaultKillGrace
	}
	if c.MaxLine == 0 {
		c.MaxLine = DefaultMaxLine
	}
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = DefaultMaxLogBytes
	}
	if c.LastWords == 0 {
		c.LastWords = DefaultLastWords
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	return c
}

// Validate reports everything that is wrong with c, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Command == nil {
		errs = append(errs, fmt.Errorf("%w: no Command", ErrConfig))
	}
	if c.KillGrace < 0 || c.MaxLine < 0 || c.MaxLogBytes < 0 || c.LastWords < 0 {
		errs = append(errs, fmt.Errorf("%w: kill grace %v, max line %d, max log bytes %d and last words %d must not be negative",
			ErrConfig, c.KillGrace, c.MaxLine, c.MaxLogBytes, c.LastWords))
	}
	return errors.Join(errs...)
}

func (c Command) validate() error {
	if c.Name == "" || c.Name != filepath.Base(c.Name) || c.Name == "." || c.Name == ".." {
		return fmt.Errorf("%w: command name %q is no plain file name", ErrConfig, c.Name)
	}
	if c.Path == "" {
		return fmt.Errorf("%w: command %s has no program", ErrConfig, c.Name)
	}
	return nil
}
