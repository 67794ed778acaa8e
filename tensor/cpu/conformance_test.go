package cpu_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/tensortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend makes a backend of n threads on a kernel set.
func backend(set kernel.Set, n int) func(testing.TB) tensor.Backend {
	return func(testing.TB) tensor.Backend {
		return cpu.New(cpu.Config{Threads: n, Kernels: set.String()})
	}
}

// everySet runs f for each kernel set of this processor.
func everySet(t *testing.T, f func(t *testing.T, set kernel.Set)) {
	t.Helper()
	for _, set := range kernel.Supported() {
		t.Run(set.String(), func(t *testing.T) { f(t, set) })
	}
}

func TestConformance(t *testing.T) {
	everySet(t, func(t *testing.T, set kernel.Set) { tensortest.Run(t, backend(set, 2)) })
}

func TestThreadsChangeNoBit(t *testing.T) {
	everySet(t, func(t *testing.T, set kernel.Set) {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprintf("1=%d", n), func(t *testing.T) { tensortest.RunSame(t, backend(set, 1), backend(set, n)) })
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	everySet(t, func(t *testing.T, set kernel.Set) { tensortest.RunAllocs(t, backend(set, 2)) })
}
