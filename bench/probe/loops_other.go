//go:build !amd64

package probe

// vectorLoops lists the assembly loops that this processor runs, widest first.
func vectorLoops() []Loops { return nil }
