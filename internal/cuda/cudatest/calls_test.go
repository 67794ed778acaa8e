//go:build cuda

package cudatest_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

// What the host asks for counts when it asks; what a graph repeats, and what is only
// recorded, does not.
func TestCalls(t *testing.T) {
	k := load(t)
	s, x := cudatest.Stream(t), cudatest.Alloc(t, 1)
	host := []float32{1}
	require.NoError(t, driver.BeginCapture(s, driver.CaptureThreadLocal))
	calls := cudatest.CallsOf(t, func() {
		require.NoError(t, cudatest.Launch(k.inc, s, 1, 1, uint64(x)))
		require.NoError(t, cudatest.Launch(k.inc, s, 1, 1, uint64(x)))
	})
	require.Equal(t, cudatest.Calls{}, calls)
	g, err := driver.EndCapture(s)
	require.NoError(t, err)
	exec, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, g.Destroy())
	calls = cudatest.CallsOf(t, func() {
		require.NoError(t, cu.MemcpyHtoDAsync(x, unsafe.Pointer(&host[0]), 4, s))
		require.NoError(t, cudatest.Launch(k.twice, s, 1, 1, uint64(x)))
		require.NoError(t, exec.Launch(s))
		require.NoError(t, exec.Launch(s))
		require.NoError(t, s.Synchronize())
	})
	require.Equal(t, cudatest.Calls{Kernels: 1, Graphs: 2, Copies: 1, Waits: 1}, calls)
	require.NoError(t, exec.Destroy())
	require.Equal(t, float32(6), cudatest.Download(t, x, 1)[0])
}
