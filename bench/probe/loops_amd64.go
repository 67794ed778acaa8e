package probe

import "golang.org/x/sys/cpu"

//go:generate go run -C internal/asm . -pkg probe -out ../../loops_amd64.s -stubs ../../loops_stub_amd64.go

// vectorLoops lists the assembly loops that this processor runs, widest first.
func vectorLoops() []Loops {
	var all []Loops
	if cpu.X86.HasAVX512F {
		all = append(all, Loops{"avx512", 16 * 16, fmaAVX512, readAVX512, scaleAVX512})
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		all = append(all, Loops{"avx2", 12 * 8, fmaAVX2, readAVX2, scaleAVX2})
	}
	return all
}
