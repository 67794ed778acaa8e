package agr

import "github.com/agrdist/agrdist/internal/isa"

//go:generate go run -C internal/asm . -pkg agr -out ../../kernels_gen_amd64.s -stubs ../../kernels_gen_amd64.go

// vectorKernels lists the assembly kernels, widest first.
var vectorKernels = []kernels{
	{isa.AVX512, normsVector(normsAVX512), adanAVX512},
	{isa.AVX2, normsVector(normsAVX2), adanAVX2},
}
