package probe

import "github.com/agrdist/agrdist/internal/isa"

//go:generate sh -c "go run -C internal/asm . -pkg probe -out ../../loops_amd64.s -stubs ../../loops_stub_amd64.go && go run -C ../../tensor/cpu/internal/kernel/gen ./encode ${DOLLAR}PWD/loops_amd64.s"

// vectorLoops lists the assembly loops, widest first.
var vectorLoops = []Loops{
	{set: isa.AVX512BF16, Pairs: true, chains: 16 * 16, fma: pairsAVX512, read: readAVX512, scale: scaleAVX512},
	{set: isa.AVX512, chains: 16 * 16, fma: fmaAVX512, read: readAVX512, scale: scaleAVX512},
	{set: isa.AVX2, chains: 12 * 8, fma: fmaAVX2, read: readAVX2, scale: scaleAVX2},
}
