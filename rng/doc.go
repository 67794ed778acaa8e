// Package rng is the project's only source of randomness: Philox 4x32-10, a
// counter-based generator (Salmon et al., "Parallel Random Numbers: As Easy as
// 1, 2, 3", SC'11).
//
// A value is a pure function of (seed, stream, draw, block). There is no hidden
// state to save, to split between ranks or to lose on a resume. A draw names
// WHICH sample a value belongs to (its position in the global order of the
// run), never which rank computes it, so any number of workers sees the same
// noise.
//
// The package does not shuffle, batch or schedule; those stand on it.
package rng
