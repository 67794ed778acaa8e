//go:build cuda

package cudatest_test

import (
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

// second skips the test where there is one device only.
func second(t *testing.T) {
	t.Helper()
	info, err := driver.Status()
	require.NoError(t, err)
	if len(info.Devices) < 2 {
		t.Skip("needs two GPUs")
	}
}

// TestTwoDevices: each computes on a thread of its own, and a kernel belongs to one.
func TestTwoDevices(t *testing.T) {
	second(t)
	t.Run("at once", func(t *testing.T) {
		var wg sync.WaitGroup
		got := make([]float32, 2)
		for i := range got {
			wg.Go(func() {
				t.Run("", func(t *testing.T) { got[i] = countUp(t, i) })
			})
		}
		wg.Wait()
		require.Equal(t, []float32{100, 101}, got)
	})
	t.Run("not each other's kernels", func(t *testing.T) {
		m := cudatest.Module(t, cudatest.Context(t, 0), steps)
		f := cudatest.Function(t, m, "inc")
		cudatest.Context(t, 1)
		err := cudatest.Launch(f, cu.NoStream, 1, 1, uint64(cudatest.Alloc(t, 1)))
		require.Error(t, err)
	})
}

func countUp(t *testing.T, device int) float32 {
	t.Helper()
	m := cudatest.Module(t, cudatest.Context(t, device), steps)
	f, s := cudatest.Function(t, m, "inc"), cudatest.Stream(t)
	x := cudatest.Upload(t, []float32{float32(device)})
	for range 100 {
		require.NoError(t, cudatest.Launch(f, s, 1, 1, uint64(x)))
	}
	return cudatest.Download(t, x, 1)[0]
}

// TestPeers: access is enabled once, copies go across, an event orders the streams of
// two devices.
func TestPeers(t *testing.T) {
	second(t)
	k := load(t)
	here, err := cu.CurrentContext()
	require.NoError(t, err)
	x, s, e := cudatest.Alloc(t, 1), cudatest.Stream(t), event(t)

	cudatest.Context(t, 1)
	there, err := cu.CurrentContext()
	require.NoError(t, err)
	require.NoError(t, here.EnablePeerAccess(0))
	require.ErrorIs(t, here.EnablePeerAccess(0), cu.PeerAccessAlreadyEnabled)
	y, other := cudatest.Alloc(t, 1), cudatest.Stream(t)
	for i := range 50 {
		require.NoError(t, cu.SetCurrentContext(here))
		require.NoError(t, cudatest.Launch(k.set, s, 1, 1, uint64(x), one+uint64(i)<<16))
		require.NoError(t, e.Record(s))
		want := cudatest.Download(t, x, 1)
		require.NoError(t, cu.SetCurrentContext(there))
		require.NoError(t, other.Wait(e, 0))
		require.NoError(t, cu.MemcpyPeerAsync(y, there, x, here, 4, other))
		require.Equal(t, want, cudatest.Download(t, y, 1))
	}
	require.NoError(t, here.DisablePeerAccess())
	require.ErrorIs(t, here.DisablePeerAccess(), cu.PeerAccessNotEnabled)
}

// TestGoKeepsItsFaults: the doubles catch the faults of kernels; those of Go code stay
// panics.
func TestGoKeepsItsFaults(t *testing.T) {
	k := load(t)
	require.NoError(t, cudatest.Launch(k.set, cu.NoStream, 1, 1, uint64(cudatest.Alloc(t, 1)), one))
	require.NoError(t, cu.Synchronize())
	var p *int
	var caught any
	func() {
		defer func() { caught = recover() }()
		*p = 1
	}()
	require.ErrorContains(t, caught.(runtime.Error), "nil pointer dereference")
}

// TestEnv: a child process finds the doubles.
func TestEnv(t *testing.T) {
	env, err := cudatest.Env(t.Context())
	require.NoError(t, err)
	if cudatest.Real() {
		require.Empty(t, env)
		return
	}
	for _, kv := range env {
		name, path, ok := strings.Cut(kv, "=")
		require.True(t, ok)
		if strings.HasPrefix(name, "AGRDIST_LIB") {
			out, err := exec.CommandContext(t.Context(), "nm", "-D", "--defined-only", path).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
}
