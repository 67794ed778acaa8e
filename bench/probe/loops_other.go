//go:build !amd64

package probe

// vectorLoops lists the assembly loops: there are none.
var vectorLoops []Loops
