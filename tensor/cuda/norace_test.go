//go:build cuda && !race

package cuda_test

const race = false
