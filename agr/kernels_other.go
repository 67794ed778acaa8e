//go:build !amd64 && !arm64

package agr

// vectorKernels lists the assembly kernels: there are none.
var vectorKernels []kernels
