//go:build race

package cpu_test

// The race detector sees only the plain Go kernels, and is slow: with it the
// tests leave the assembly out.
const race = true
