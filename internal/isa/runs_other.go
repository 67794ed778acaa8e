//go:build !amd64

package isa

// Runs tells whether this processor has the set.
func (s Set) Runs() bool { return s == Go }
