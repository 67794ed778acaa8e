// Package cpu is the tensor.Backend of the host processor.
//
// Its one idea: everything that costs is one of two small matrix kernels, a
// tile of C += A B and a tile of C += A^T B over rows found through offset
// tables, so that convolution (forward, both gradients, any stride and padding)
// and matrix multiplication are the same few loops, written in plain Go and in generated
// assembly: AVX2 and AVX-512 on amd64, NEON on arm64. The plain Go is the oracle the
// assembly is tested against. 3x3 convolutions of stride 1 and both their
// gradients go through the same tiles by Winograd's minimal filtering, by a fixed
// table of shapes (winograd.go).
//
// Work is cut by the shapes alone and handed to a parallel.Pool; every sum has
// one order. Results are the same bits for any number of threads. They differ
// in the last bits between kernel sets, so the set is part of the backend's
// name; AGRDIST_CPU=go|avx2|avx512|avx512bf16|neon|neonbf16 forces one. The portable sets
// (AGRDIST_CPU=portable) have one rounding, that of AVX2, on every processor.
//
// Operations run when they are called: Sync and Download wait for nothing. In
// the steady state nothing is allocated; scratch memory belongs to the backend
// and grows to the largest operation seen.
//
// In precision BF16 the inputs of matmuls and convolutions are rounded to bf16 where they are
// copied anyway, into padded images and packed panels; sums, and all that is no
// product, stay F32. Where the processor is fast at it (kernel.BestBF16) the copies
// hold pairs of bf16 for AVX512-BF16, and convolutions are direct; elsewhere they
// are float32 with the same values, for the kernels of F32, and a convolution that
// F32 filters is filtered, in F32, from rounded operands.
// BF16 buffers can be filled, copied and read, no more.
package cpu
