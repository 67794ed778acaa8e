// Package tensor is the contract between the model and the hardware: shapes,
// element types, opaque buffers and the Backend interface.
//
// A Backend runs eager operations on buffers that only it can look into. The
// destination comes first, the caller owns every buffer, no operation allocates
// memory that the caller can see, and the result of an operation is a function
// of its arguments alone: the same bits for any number of threads, on every
// call. Operations may run later than they are called (a stream); Sync and
// Download wait for them.
//
// Layouts, the same on every backend:
//
//	activations        [N, H, W, C], channels innermost
//	convolution weight [kh, kw, Cin, Cout]
//	linear weight      [in, out]            y = x W + b
//	bias, norm affine  [C]
//
// Shape mismatches are a programmer's error and panic with both shapes in the
// text. Failures of the device surface as an error from Alloc, Download, Sync.
//
// Fused operations are optional interfaces (fused.go) found by type assertion;
// whoever uses one carries the composition as a fall-back, and
// tensor/tensortest compares the two.
//
// The package imports nothing of this project and computes nothing.
package tensor
