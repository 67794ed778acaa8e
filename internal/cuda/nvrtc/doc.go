// Package nvrtc compiles CUDA C++ at run time with NVIDIA's NVRTC, which is found
// when the first call needs it (package dl). It needs no GPU and no driver.
//
// Options are handed on as they are; the architecture must be a real one (sm_90), so
// that the result is machine code (a cubin), which any driver of the same major
// version loads without compiling again.
//
// The package keeps no cache: tensor/cuda does.
package nvrtc
