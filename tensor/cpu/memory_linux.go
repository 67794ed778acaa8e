package cpu

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// physicalMemory is the machine's memory in bytes.
func physicalMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return math.MaxInt64
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// hugePage is the size of the pages that hugePages asks for, in bytes.
const hugePage = 2 << 20

// hugePages asks for large pages for n bytes from p on: operands are megabytes, and
// their pages of 4 KiB more than the processor keeps translations for. A kernel
// without them refuses, which costs nothing but time.
func hugePages(p unsafe.Pointer, n int) {
	first := int(-uintptr(p) % hugePage)
	if whole := (n - first) / hugePage * hugePage; whole > 0 {
		_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, first)), whole), unix.MADV_HUGEPAGE)
	}
}
