package agr

import "github.com/agrdist/agrdist/internal/isa"

// vectorKernels lists the assembly kernels.
var vectorKernels = []kernels{{isa.NEON, normsVector(normsNEON), adanNEON}}

// normsNEON adds |x[i]| and x[i]^2 to lane i mod 16 of abs and squares for i < count, a
// multiple of 16.
//
//go:noescape
func normsNEON(abs, squares *[16]float64, x *float32, count int)

// adanNEON is an adanKernel.
//
//go:noescape
func adanNEON(k *[16]float32, den float32, count int, w, grad, m, v, n, prev, ema *float32)
