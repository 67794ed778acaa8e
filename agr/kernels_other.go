//go:build !amd64

package agr

// vectorKernels lists the assembly kernels that this processor runs, widest
// first.
func vectorKernels() []kernels { return nil }
