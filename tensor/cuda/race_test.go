//go:build cuda && race

package cuda_test

// The race detector sees no kernel and is slow: with it the tests of arithmetic
// alone are left out.
const race = true
