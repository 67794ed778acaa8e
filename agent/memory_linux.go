package agent

import (
	"os"

	"golang.org/x/sys/unix"
)

// heldState is the memory in which this node's workers leave copies of the state, which
// outlive them; nil where none is wanted, or the system has none.
func (a *Agent) heldState() *os.File {
	if a.cfg.Run.Checkpoint.MemoryEvery == 0 || a.held != nil {
		return a.held
	}
	fd, err := unix.MemfdCreate("agrdist-state", unix.MFD_CLOEXEC)
	if err != nil {
		a.log.Warn("this node holds no state for its workers (checkpoint.memory_every)", "err", err)
		return nil
	}
	a.held = os.NewFile(uintptr(fd), "agrdist-state")
	return a.held
}
