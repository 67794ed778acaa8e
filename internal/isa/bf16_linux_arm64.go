package isa

import (
	"encoding/binary"
	"os"
	"sync"
)

// hasBF16 asks the kernel, by the auxiliary vector: x/sys/cpu does not know FEAT_BF16.
var hasBF16 = sync.OnceValue(func() bool {
	const hwcap2, bf16 = 26, 1 << 14 // AT_HWCAP2 and HWCAP2_BF16 (linux/auxvec.h, asm/hwcap.h)
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return false
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == hwcap2 {
			return binary.LittleEndian.Uint64(auxv[8:])&bf16 != 0
		}
	}
	return false
})
