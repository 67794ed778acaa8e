package cpu

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// physicalMemory is the machine's memory in bytes.
func physicalMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil || n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}

// hugePages does nothing: the system has no such request.
func hugePages(unsafe.Pointer, int) {}
