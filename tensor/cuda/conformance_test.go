//go:build cuda

package cuda_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
	"github.com/agrdist/agrdist/tensor/tensortest"
)

func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }

// open makes a backend on the first device.
func open(tb testing.TB) *cuda.Backend {
	tb.Helper()
	be, err := cuda.New(cuda.Config{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, be.Close()) })
	return be
}

// newBackend is open for package tensortest, which closes what it opens.
func newBackend(tb testing.TB) tensor.Backend {
	tb.Helper()
	return open(tb)
}

// The suite runs every case twice and wants the same bits; on the double, blocks
// and threads run in another order each time.
func TestConformance(t *testing.T) {
	tensortest.RunOptions(t, tensortest.Options{
		New:       newBackend,
		NormalULP: 1,
	})
}

func TestAllocatesNothing(t *testing.T) {
	if race {
		t.Skip("allocations are no race")
	}
	tensortest.RunAllocs(t, newBackend)
}
