//go:build !amd64 && !arm64

package isa

// Runs tells whether this processor has the set.
func (s Set) Runs() bool { return s.Machine() == Go }
