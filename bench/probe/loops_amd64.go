package probe

import "golang.org/x/sys/cpu"

//go:generate sh -c "go run -C internal/asm . -pkg probe -out ../../loops_amd64.s -stubs ../../loops_stub_amd64.go && go run -C ../../tensor/cpu/internal/kernel/gen ./encode ${DOLLAR}PWD/loops_amd64.s"

// vectorLoops lists the assembly loops that this processor runs, widest first.
func vectorLoops() []Loops {
	var all []Loops
	if cpu.X86.HasAVX512F {
		all = append(all, Loops{Name: "avx512", chains: 16 * 16, fma: fmaAVX512, read: readAVX512, scale: scaleAVX512})
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		all = append(all, Loops{Name: "avx2", chains: 12 * 8, fma: fmaAVX2, read: readAVX2, scale: scaleAVX2})
	}
	return all
}

// pairLoops lists the loops that multiply pairs of bf16.
func pairLoops() []Loops {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BF16 {
		return []Loops{{Name: "avx512bf16", Pairs: true, chains: 16 * 16, fma: pairsAVX512, read: readAVX512, scale: scaleAVX512}}
	}
	return nil
}
