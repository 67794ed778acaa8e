package isa

import (
	"sync"

	"golang.org/x/sys/unix"
)

// hasBF16 asks the system: Apple's processors have FEAT_BF16 from the M2 on.
var hasBF16 = sync.OnceValue(func() bool {
	v, err := unix.SysctlUint32("hw.optional.arm.FEAT_BF16")
	return err == nil && v == 1
})
