// Package isa tells which vector instructions this processor has, and which of them
// AGRDIST_CPU asks for.
//
// Its one idea: a set of instructions has one name and one meaning in the whole
// module. Packages with assembly (agr, tensor/cpu, bench/probe) ask here instead of
// testing feature bits, so "avx512" needs the same features everywhere and the variable
// is read in one place. Sets round differently, but for the portable ones, which have one
// rounding for all architectures.
//
// It does not say which of two sets is faster.
package isa
