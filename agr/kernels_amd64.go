package agr

import (
	"golang.org/x/sys/cpu"

	"github.com/agrdist/agrdist/optim"
)

//go:generate go run -C internal/asm . -pkg agr -out ../../kernels_gen_amd64.s -stubs ../../kernels_gen_amd64.go

// vectorKernels lists the assembly kernels that this processor runs, widest
// first.
func vectorKernels() []kernels {
	var all []kernels
	if cpu.X86.HasAVX512F {
		all = append(all, kernels{"avx512", normsVector(normsAVX512), adanAVX512})
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		all = append(all, kernels{"avx2", normsVector(normsAVX2), adanAVX2})
	}
	return all
}

// normsVector makes a twin of optim.Norms of a kernel that adds count elements,
// a multiple of vectorLen, to the lanes.
func normsVector(add func(abs, squares *[optim.Lanes]float64, x *float32, count int)) func(x []float32) (l1, sq float64) {
	return func(x []float32) (l1, sq float64) {
		var abs, squares [optim.Lanes]float64
		whole := len(x) &^ (vectorLen - 1)
		if whole > 0 {
			add(&abs, &squares, &x[0], whole)
		}
		optim.AddNorms(&abs, &squares, x[whole:])
		return optim.SumLanes(&abs), optim.SumLanes(&squares)
	}
}
