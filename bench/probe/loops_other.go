//go:build !amd64

package probe

// vectorLoops lists the assembly loops that this processor runs, widest first.
func vectorLoops() []Loops { return nil }

// pairLoops lists the loops that multiply pairs of bf16.
func pairLoops() []Loops { return nil }
