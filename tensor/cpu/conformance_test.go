package cpu_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/tensortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// threads makes a backend of n threads.
func threads(n int) func(testing.TB) tensor.Backend {
	return func(testing.TB) tensor.Backend { return cpu.New(cpu.Config{Threads: n}) }
}

func TestConformance(t *testing.T) { tensortest.Run(t, threads(2)) }

func TestThreadsChangeNoBit(t *testing.T) {
	t.Run("1=2", func(t *testing.T) { tensortest.RunSame(t, threads(1), threads(2)) })
	t.Run("1=3", func(t *testing.T) { tensortest.RunSame(t, threads(1), threads(3)) })
}

func TestAllocatesNothing(t *testing.T) {
	tensortest.RunAllocs(t, threads(2))
}
