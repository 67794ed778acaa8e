//go:build unix

package supervise

import (
	"io"
	"os"
)

// envSupervised holds the supervisor's process id in a worker's environment. It
// bears no AGRDIST_ prefix, as it is no setting.
const envSupervised = "SUPERVISED_BY_AGRDIST"

// Supervised reports whether this process was started by a Supervisor.
func Supervised() bool { return os.Getenv(envSupervised) != "" }

// WatchParent is for the worker: it calls gone once, on another goroutine, when
// the supervisor has died, which closes the pipe that stdin (os.Stdin) is. A
// process that no Supervisor started is left alone: its stdin means nothing.
// The goroutine lasts as long as the supervisor.
func WatchParent(stdin io.Reader, gone func()) {
	if !Supervised() {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // nothing is ever written: it returns at end of file
		gone()
	}()
}
