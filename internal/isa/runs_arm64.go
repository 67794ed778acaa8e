package isa

// Runs tells whether this processor has the set.
func (s Set) Runs() bool { return s.Machine() == Go || s.Machine() == NEON }
