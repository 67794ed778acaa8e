// Package neon writes Go assembly for arm64 with Advanced SIMD.
//
// Its one idea: Go's assembler knows integer instructions and branches, but few of the
// vector floating-point ones. A Func holds both kinds on virtual registers; when it is
// written, the registers are coloured over the flow of the function, integer
// instructions are printed in Go's syntax, and vector instructions as words, encoded by a
// table (encode.go) with the mnemonic as a comment.
//
// Only the generators of kernels use it, at development time. It schedules nothing and
// spills nothing: a function that needs too many registers does not generate.
package neon
