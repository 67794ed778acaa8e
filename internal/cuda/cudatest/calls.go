//go:build cuda

package cudatest

/*
#include <stdlib.h>

static unsigned long long agr_touched(void *f, const char *kernel) {
  return ((unsigned long long (*)(const char *))f)(kernel);
}
static void agr_calls(void *f, unsigned long *counts) { ((void (*)(unsigned long *))f)(counts); }
*/
import "C"

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/dl"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

// Calls is what the host has asked of the double of the driver. What runs inside a
// graph is part of the graph's one launch.
type Calls struct {
	Kernels   int // launched one by one
	Graphs    int // launched
	Copies    int // and fills
	Libraries int // operations of cuDNN, cuBLASLt and NCCL outside of graphs
	Waits     int // of the host for the device
}

// CallsOf counts what f asks for. On a GPU there is nobody who counts: the test is
// skipped.
func CallsOf(tb testing.TB, f func()) Calls {
	tb.Helper()
	if Real() {
		tb.Skip("only the double of the driver counts calls")
	}
	before := calls(tb)
	f()
	after := calls(tb)
	for i := range after {
		after[i] -= before[i]
	}
	return Calls{Kernels: after[1], Graphs: after[2], Copies: after[3], Libraries: after[4], Waits: after[5]}
}

// Touched is how many bytes of device memory the launches of a kernel so far have read and
// how many they have written, each byte once a launch. Only the doubles that look for data
// races know it (AGRDIST_FAKE_RACES): elsewhere the test is skipped.
func Touched(tb testing.TB, kernel string) int64 {
	tb.Helper()
	if Real() || os.Getenv("AGRDIST_FAKE_RACES") == "" {
		tb.Skip("the bytes that kernels touch are counted where data races are looked for: AGRDIST_FAKE_RACES=1")
	}
	lib, err := dl.Open(driver.LibraryVariable)
	require.NoError(tb, err)
	f, err := lib.Symbol("fakecuTouched")
	require.NoError(tb, err)
	name := C.CString(kernel)
	defer C.free(unsafe.Pointer(name))
	return int64(C.agr_touched(f, name))
}

// calls are the double's counts, in the order of its Kind.
func calls(tb testing.TB) (all [6]int) {
	tb.Helper()
	lib, err := dl.Open(driver.LibraryVariable)
	require.NoError(tb, err)
	f, err := lib.Symbol("fakecuCalls")
	require.NoError(tb, err)
	var counts [6]C.ulong
	C.agr_calls(f, &counts[0])
	for i, n := range counts {
		all[i] = int(n)
	}
	return all
}
