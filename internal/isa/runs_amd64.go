package isa

import "golang.org/x/sys/cpu"

// Runs tells whether this processor has the set and the system saves its registers.
func (s Set) Runs() bool {
	x := &cpu.X86
	switch s = s.Machine(); s {
	case AVX2:
		return x.HasAVX2 && x.HasFMA && x.HasBMI2
	case AVX512:
		return AVX2.Runs() && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL
	case AVX512BF16:
		return AVX512.Runs() && x.HasAVX512BF16
	case NEON, NEONBF16:
		return false
	case Go, PortableGo, PortableAVX2, PortableAVX512, PortableNEON: // Go; Machine is none of the others
	}
	return true
}
