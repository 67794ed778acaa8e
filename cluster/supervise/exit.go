//go:build unix

package supervise

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ask says whether the supervisor was asked to end a process.
type Ask uint8

// The ways a process was asked to end.
const (
	NotAsked  Ask = iota // by nobody: it ended by itself, or somebody else did it
	AskedStop            // by Stop or Close
	AskedKill            // by Kill
)

// OOM says whether the kernel's out-of-memory killer is to blame for a SIGKILL.
type OOM uint8

// The verdicts; they rest on the cgroup's oom_kill counter.
const (
	OOMUnknown OOM = iota // no counter to be read
	OOMNo                 // the counter stood still while the process lived
	OOMLikely             // the counter rose while the process lived
)

// Exit says how one process ended.
type Exit struct {
	Slot        int
	Name        string
	Incarnation int
	PID         int
	// Code is the exit code; -1 if a signal ended the process.
	Code int
	// Signal is the name of the signal that ended it, "SIGKILL"; "" if none.
	Signal     string
	CoreDumped bool
	// OOM is set for a SIGKILL that this supervisor did not send.
	OOM OOM
	// Asked is whether the supervisor was asked to end it.
	Asked Ask
	// GraceOver marks a SIGKILL because SIGTERM had no effect in time.
	GraceOver bool
	Started   time.Time
	Ended     time.Time
	// LastWords are the last lines of its output; the line of a Go panic, if it
	// lies further back, comes first.
	LastWords []string
	// Record is the last line of its record pipe; nil if it wrote none.
	Record []byte
	// Err reports that the process could not be waited for; rare.
	Err error

	sig syscall.Signal
}

// decode reads the wait status.
func (e *Exit) decode(ws syscall.WaitStatus) {
	switch {
	case ws.Exited():
		e.Code = ws.ExitStatus()
	case ws.Signaled():
		e.sig = ws.Signal()
		e.CoreDumped = ws.CoreDump()
		if e.Signal = unix.SignalName(e.sig); e.Signal == "" {
			e.Signal = fmt.Sprintf("signal %d", int(e.sig))
		}
	}
}

// Failed reports whether the process ended badly: neither with code 0 nor on request.
func (e Exit) Failed() bool { return e.Asked == NotAsked && (e.Code != 0 || e.Err != nil) }

// Reason says on one line how the process ended: "rank-1 exited with code 2 after 3.2s".
func (e Exit) Reason() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", e.Name)
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, "ended in an unknown way (%v)", e.Err)
	case e.Signal == "":
		fmt.Fprintf(&b, "exited with code %d", e.Code)
	default:
		fmt.Fprintf(&b, "was ended by %s", e.Signal)
		if e.CoreDumped {
			b.WriteString(" (core dumped)")
		}
	}
	fmt.Fprintf(&b, " after %s", e.Ended.Sub(e.Started).Round(100*time.Millisecond))
	switch {
	case e.GraceOver && e.sig == syscall.SIGKILL:
		b.WriteString(", as it did not stop on SIGTERM in time")
	case e.Asked != NotAsked:
		b.WriteString(", as asked")
	case e.sig == syscall.SIGKILL:
		b.WriteString(map[OOM]string{
			OOMUnknown: "; not by agrdist: perhaps by the kernel for lack of memory (see dmesg)",
			OOMNo:      "; not by agrdist, nor for lack of memory",
			OOMLikely:  "; by the kernel for lack of memory, most likely: raise the memory limit or run fewer workers",
		}[e.OOM])
	}
	return b.String()
}

// String is Reason and the last words.
func (e Exit) String() string {
	switch len(e.LastWords) {
	case 0:
		return e.Reason() + "; it said nothing"
	case 1:
		return e.Reason() + "; its last words: " + e.LastWords[0]
	default:
		return e.Reason() + "; its last words:\n    " + strings.Join(e.LastWords, "\n    ")
	}
}
