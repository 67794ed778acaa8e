package isa

// Runs tells whether this processor has the set.
func (s Set) Runs() bool {
	switch s = s.Machine(); s {
	case Go, NEON:
		return true
	case NEONBF16:
		return hasBF16()
	case AVX2, AVX512, AVX512BF16, PortableGo, PortableAVX2, PortableAVX512, PortableNEON: // amd64's; Machine is no portable one
	}
	return false
}
