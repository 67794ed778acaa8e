package cpu_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
	"github.com/agrdist/agrdist/tensor/tensortest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// backend makes a backend of n threads on a kernel set.
func backend(set kernel.Set, n int) func(testing.TB) tensor.Backend {
	return func(testing.TB) tensor.Backend {
		return cpu.New(cpu.Config{Threads: n, Kernels: set.String()})
	}
}

// sets lists the kernel sets to test.
func sets() []kernel.Set {
	if race {
		return []kernel.Set{kernel.Go}
	}
	return kernel.Supported()
}

func TestConformance(t *testing.T) {
	for _, set := range append(sets(), portables()...) {
		t.Run(set.String(), func(t *testing.T) { tensortest.Run(t, backend(set, 2)) })
	}
}

// portables lists the portable sets that are not another one besides.
func portables() []kernel.Set {
	if race {
		return nil
	}
	return slices.DeleteFunc(kernel.Portables(), func(s kernel.Set) bool { return slices.Contains(kernel.Supported(), s) })
}

// All portable sets give the same bits, whatever the threads.
func TestPortableSetsAreOne(t *testing.T) {
	if race {
		t.Skip("plain Go is slow, and TestConformance has its loops")
	}
	for _, set := range kernel.Portables()[1:] {
		t.Run(set.String(), func(t *testing.T) { tensortest.RunSame(t, backend(kernel.PortableGo, 1), backend(set, 2)) })
	}
}

func TestThreadsChangeNoBit(t *testing.T) {
	for _, set := range sets() {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprintf("%v/1=%d", set, n), func(t *testing.T) {
				tensortest.RunSame(t, backend(set, 1), backend(set, n))
			})
		}
	}
}

func TestPinningChangesNoBit(t *testing.T) {
	const threads = 2
	cores, err := parallel.Cores(0, 1, threads)
	if err != nil {
		t.Skip(err)
	}
	set := sets()[len(sets())-1]
	tensortest.RunSame(t, backend(set, threads), func(tb testing.TB) tensor.Backend {
		tb.Helper()
		be := cpu.New(cpu.Config{Threads: threads, Kernels: set.String()})
		release, err := be.Pool().Pin(cores)
		require.NoError(tb, err)
		tb.Cleanup(release)
		return be
	})
}

func TestAllocatesNothing(t *testing.T) {
	if race {
		t.Skip("allocations are no race")
	}
	for _, set := range sets() {
		t.Run(set.String(), func(t *testing.T) { tensortest.RunAllocs(t, backend(set, 2)) })
	}
}
