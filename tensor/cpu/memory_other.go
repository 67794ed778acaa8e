//go:build !linux && !darwin

package cpu

import (
	"math"
	"unsafe"
)

// physicalMemory is the machine's memory in bytes; unknown here.
func physicalMemory() int64 { return math.MaxInt64 }

// hugePages does nothing.
func hugePages(unsafe.Pointer, int) {}
