//go:build cuda

package cudatest_test

import (
	"math"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// The faults that kernels have. Each breaks the context, as on the device.
const faults = `
extern "C" __global__ void beyond(float *x, int n) { x[n + threadIdx.x] = 1; }
extern "C" __global__ void before(float *x) { x[-1024 - (int)threadIdx.x] = 1; }
extern "C" __global__ void wild(float *x) { *(float *)((unsigned long long)x ^ 0x100000000000ull) = 1; }
struct alignas(16) Four { float x, y, z, w; };
extern "C" __global__ void misaligned(float *x) { Four f = *(const Four *)(x + 1); x[0] = f.x; }
extern "C" __global__ void outside(float *x, int i) { __shared__ float room[8]; room[i] = 1; __syncthreads(); x[0] = room[0]; }
extern "C" __global__ void divergent(float *x) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  x[threadIdx.x] = 0;
}
extern "C" __global__ void stuck(float *x) {
  if (threadIdx.x < 16) __syncthreads();
  else x[0] = __shfl_sync(0xffffffffu, 1.0f, 0);
}
extern "C" __global__ void notInMask(float *x) { x[threadIdx.x] = __shfl_sync(1u, 1.0f, 0); }
extern "C" __global__ void divide(int *x, int by) { x[0] = 7 / by; }
extern "C" __global__ void trap(float *x) { if (x) __trap(); }
extern "C" __global__ void bomb(float *x) { volatile float big[65536]; big[threadIdx.x] = 1; x[0] = big[65535]; }
extern "C" __global__ void slack(float *x, int n) { x[n] = 1; }
extern "C" __global__ void fine(float *x) { x[threadIdx.x] = 1; }
`

func TestFaultsBreakTheContext(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a GPU's context does not come back within a process")
	}
	division := error(cu.LaunchFailed)
	if runtime.GOARCH == "arm64" { // where a division by zero is no signal, but what the sanitizer traps
		division = cu.MisalignedAddress
	}
	for _, tt := range []struct {
		kernel string
		arg    uint64
		want   error
	}{
		{"beyond", 1024, cu.IllegalAddress},
		{"before", 0, cu.IllegalAddress},
		{"wild", 0, cu.IllegalAddress},
		{"misaligned", 0, cu.MisalignedAddress},
		{"outside", 8, cu.MisalignedAddress},
		{"divergent", 0, cu.LaunchFailed},
		{"stuck", 0, cu.LaunchFailed},
		{"notInMask", 0, cu.LaunchFailed},
		{"divide", 0, division},
		{"trap", 0, cu.LaunchFailed},
		{"bomb", 0, cu.IllegalAddress},
	} {
		t.Run(tt.kernel, func(t *testing.T) {
			dev := cudatest.Context(t, 0)
			m := cudatest.Module(t, dev, faults)
			x := cudatest.Alloc(t, 1024)
			require.NoError(t, cudatest.Launch(cudatest.Function(t, m, tt.kernel), cu.NoStream, 1, 32, uint64(x), tt.arg))
			require.ErrorIs(t, cu.Synchronize(), tt.want)
			require.ErrorIs(t, cu.MemcpyDtoD(x, x, 4), tt.want, "the error stays")
			_, err := cu.MemAlloc(4)
			require.ErrorIs(t, err, tt.want)
		})
	}
	t.Run("then a new context works", func(t *testing.T) {
		dev := cudatest.Context(t, 0)
		x := cudatest.Alloc(t, 32)
		f := cudatest.Function(t, cudatest.Module(t, dev, faults), "fine")
		require.NoError(t, cudatest.Launch(f, cu.NoStream, 1, 32, uint64(x)))
		require.Equal(t, float32(1), cudatest.Download(t, x, 32)[31])
	})
}

func TestMemoryIsGuarded(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a GPU does not check")
	}
	dev := cudatest.Context(t, 0)
	m := cudatest.Module(t, dev, faults)

	x := cudatest.Alloc(t, 100)
	for _, v := range cudatest.Download(t, x, 100) {
		require.True(t, math.IsNaN(float64(v)), "fresh memory")
	}
	b := make([]float32, 101)
	require.ErrorIs(t, cu.MemcpyHtoD(x, unsafe.Pointer(&b[0]), 404), cu.InvalidValue, "copy beyond the end")
	require.ErrorIs(t, cu.MemcpyDtoH(unsafe.Pointer(&b[0]), x+4, 400), cu.InvalidValue)
	require.ErrorIs(t, cu.MemsetD32(x+4, 0, 100), cu.InvalidValue)
	require.ErrorIs(t, cu.MemcpyHtoD(x, *(*unsafe.Pointer)(unsafe.Pointer(&x)), 4), cu.InvalidValue, "device memory as host memory")
	require.ErrorIs(t, cu.MemFree(x+4), cu.InvalidValue)

	y, err := cu.MemAlloc(400) // 112 bytes short of two alignments
	require.NoError(t, err)
	require.NoError(t, cudatest.Launch(cudatest.Function(t, m, "slack"), cu.NoStream, 1, 1, uint64(y), 100))
	require.ErrorIs(t, cu.MemFree(y), cu.IllegalAddress, "a write next to the buffer")

	z, err := cu.MemAlloc(400)
	require.NoError(t, err)
	require.NoError(t, cu.MemFree(z))
	require.ErrorIs(t, cu.MemFree(z), cu.InvalidValue, "freed twice")
	require.NoError(t, cudatest.Launch(cudatest.Function(t, m, "fine"), cu.NoStream, 1, 1, uint64(z)))
	require.ErrorIs(t, cu.Synchronize(), cu.IllegalAddress, "use after free")
}

func TestMemoryIsFinite(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a GPU's memory has other users")
	}
	cudatest.Context(t, 0)
	free, total, err := cu.MemInfo()
	require.NoError(t, err)
	require.Equal(t, total, free)
	_, err = cu.MemAlloc(total + 1)
	require.ErrorIs(t, err, cu.OutOfMemory)
	x := cudatest.Alloc(t, 1024)
	after, _, err := cu.MemInfo()
	require.NoError(t, err)
	require.Equal(t, free-4096, after)
	require.NoError(t, cu.MemFree(x))
}

// TestOrderIsNotPromised: what depends on the order of threads or blocks, or on what
// shared memory holds, does not give what a plain loop would.
func TestOrderIsNotPromised(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a GPU's order may be the plain one")
	}
	dev := cudatest.Context(t, 0)
	m := cudatest.Module(t, dev, `
extern "C" __global__ void arrivals(int *order, int *next) { order[atomicAdd(next, 1)] = threadIdx.x + 32 * blockIdx.x; }
extern "C" __global__ void stale(float *x) { __shared__ float room[32]; x[threadIdx.x] = room[threadIdx.x]; room[threadIdx.x] = 1; }
`)
	order, next, stale := cudatest.Alloc(t, 1024), cudatest.Alloc(t, 1), cudatest.Alloc(t, 32)
	require.NoError(t, cu.MemsetD32(next, 0, 1))
	require.NoError(t, cudatest.Launch(cudatest.Function(t, m, "arrivals"), cu.NoStream, 32, 32, uint64(order), uint64(next)))
	got := cudatest.Download(t, order, 1024)
	var blocks, threads int
	for i := 1; i < 1024; i++ {
		a, b := math.Float32bits(got[i-1]), math.Float32bits(got[i])
		if a/32 == b/32 && b < a {
			threads++
		}
		if b/32 < a/32 {
			blocks++
		}
	}
	require.Greater(t, threads, 100)
	require.Greater(t, blocks, 5)

	f := cudatest.Function(t, m, "stale")
	for range 2 {
		require.NoError(t, cudatest.Launch(f, cu.NoStream, 1, 32, uint64(stale)))
		require.True(t, math.IsNaN(float64(cudatest.Download(t, stale, 32)[0])))
	}
}

func TestImagesAndHandles(t *testing.T) {
	if cudatest.Real() {
		t.Skip("a GPU does not check all of it")
	}
	dev := cudatest.Context(t, 0)
	image, _, err := nvrtc.Compile(faults, "faults.cu", "sm_80")
	require.NoError(t, err)
	_, err = cu.LoadData(string(image))
	require.ErrorIs(t, err, cu.NoBinaryForGpu)

	m := cudatest.Module(t, dev, `
struct Big { float a, b, c; };
extern "C" __global__ void big(float *x, Big b) { x[0] = b.c; }`)
	x := cudatest.Alloc(t, 1)
	require.ErrorIs(t, cudatest.Launch(cudatest.Function(t, m, "big"), cu.NoStream, 1, 1, uint64(x), 0), cu.InvalidValue,
		"cu hands over eight bytes of a parameter")
	f := cudatest.Function(t, m, "big")
	require.NoError(t, m.Unload())
	require.ErrorIs(t, cudatest.Launch(f, cu.NoStream, 1, 1, uint64(x), 0), cu.InvalidHandle)

	s, err := cu.MakeStream(cu.NonBlocking)
	require.NoError(t, err)
	gone := s
	require.NoError(t, s.Destroy())
	require.ErrorIs(t, gone.Synchronize(), cu.InvalidHandle)
	require.ErrorIs(t, driver.BeginCapture(gone, driver.CaptureGlobal), cu.InvalidHandle)
}
