//go:build cuda

package cudatest

import (
	"testing"

	"github.com/agrdist/agrdist/internal/cuda/driver"
)

// Doubles skips a test on the real libraries: why says what only the doubles do.
func Doubles(tb testing.TB, why string) {
	tb.Helper()
	if Real() {
		tb.Skip("on the doubles only: " + why)
	}
}

// Count is how many GPUs there are, doubles or real ones.
func Count(tb testing.TB) int {
	tb.Helper()
	info, err := driver.Status()
	if err != nil {
		tb.Fatal(err)
	}
	return len(info.Devices)
}

// Devices skips a test that wants more GPUs than there are.
func Devices(tb testing.TB, n int) {
	tb.Helper()
	if have := Count(tb); have < n {
		tb.Skipf("this machine has %d GPUs, the test wants %d", have, n)
	}
}
