//go:build unix && !linux

package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is 0: the processor time of a thread is not to be had.
func threadTime() time.Duration { return 0 }

// cpuTime is the processor time that this process has used so far, user and
// system, over all its threads.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
