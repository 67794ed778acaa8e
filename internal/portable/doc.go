// Package portable has the arithmetic that ends in the same bits on every architecture:
// elementary functions in float64, and the fused multiply-add in float32.
//
// Its one idea: IEEE 754 fixes the result of one operation, and the rest is left to the
// compiler and to libraries. Go may fuse x*y + z (on arm64 it does, on amd64 not), and
// package math takes other algorithms on some architectures. Here every product is
// converted explicitly, which forbids the fusion, and every function has one algorithm:
// that of package math on amd64 with FMA, whose bits these are.
//
// Only what decides a model's bits needs it. It knows no vectors; the kernels of
// tensor/cpu have their own assembly.
package portable
