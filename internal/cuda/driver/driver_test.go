//go:build cuda

package driver_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

const kernels = `
extern "C" __global__ void add(float *z, const float *x, const float *y, float scale, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) z[i] = scale * (x[i] + y[i]);
}
extern "C" __global__ void inc(float *x) { x[threadIdx.x] += 1; }
extern "C" __global__ void big(float *x) {
  extern __shared__ float room[];
  room[threadIdx.x * 256] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = room[(blockDim.x - 1 - threadIdx.x) * 256];
}
`

// TestVectorAdd goes the whole way through cu and the trampolines: cuLaunchKernel has
// eleven arguments, five of them on the stack.
func TestVectorAdd(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, kernels), "add")
	const n = 1000
	x, y := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i], y[i] = float32(i), float32(3*i)
	}
	dx, dy, dz := cudatest.Upload(t, x), cudatest.Upload(t, y), cudatest.Alloc(t, n)
	s := cudatest.Stream(t)
	require.NoError(t, cudatest.Launch(f, s, 4, 256, uint64(dz), uint64(dx), uint64(dy), 0x40000000, n))
	for i, v := range cudatest.Download(t, dz, n) {
		require.Equal(t, float32(8*i), v)
	}
}

func TestHostMemory(t *testing.T) {
	cudatest.Context(t, 0)
	const n = 1 << 12
	from, err := driver.HostAlloc(4 * n)
	require.NoError(t, err)
	to, err := driver.HostAlloc(4 * n)
	require.NoError(t, err)
	src, dst := unsafe.Slice((*float32)(from), n), unsafe.Slice((*float32)(to), n)
	for i := range src {
		src[i], dst[i] = float32(i), -1
	}
	s, x := cudatest.Stream(t), cudatest.Alloc(t, n)
	require.NoError(t, cu.MemcpyHtoDAsync(x, from, 4*n, s))
	require.NoError(t, cu.MemcpyDtoHAsync(to, x, 4*n, s))
	require.NoError(t, s.Synchronize())
	require.Equal(t, src, dst)
	require.NoError(t, driver.HostFree(from))
	require.NoError(t, driver.HostFree(to))

	_, err = driver.HostAlloc(0)
	require.ErrorIs(t, err, cu.InvalidValue)
	require.EqualError(t, err, "driver: cuMemHostAlloc: invalid argument (CUDA_ERROR_INVALID_VALUE)")
	require.NotErrorIs(t, err, cu.OutOfMemory)
}

func TestAsyncMemory(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, kernels), "inc")
	require.NoError(t, driver.KeepPool(dev, 1<<20))
	s := cudatest.Stream(t)
	var got [3]float32
	for i := range got {
		p, err := driver.MemAllocAsync(4, s)
		require.NoError(t, err)
		require.NoError(t, cu.MemsetD32Async(p, 0, 1, s))
		for range i + 1 {
			require.NoError(t, cudatest.Launch(f, s, 1, 1, uint64(p)))
		}
		require.NoError(t, cu.MemcpyDtoHAsync(unsafe.Pointer(&got[i]), p, 4, s))
		require.NoError(t, driver.MemFreeAsync(p, s))
	}
	require.NoError(t, s.Synchronize())
	require.Equal(t, [3]float32{1, 2, 3}, got)
	require.NoError(t, driver.TrimPool(dev, 0))
	_, err := driver.MemAllocAsync(1<<50, s)
	require.ErrorIs(t, err, cu.OutOfMemory)
}

func TestGraph(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, kernels), "inc")
	s, x := cudatest.Stream(t), cudatest.Upload(t, []float32{0, 10})
	require.NoError(t, driver.BeginCapture(s, driver.CaptureThreadLocal))
	on, err := driver.Capturing(s)
	require.NoError(t, err)
	require.True(t, on)
	for range 3 {
		require.NoError(t, cudatest.Launch(f, s, 1, 2, uint64(x)))
	}
	g, err := driver.EndCapture(s)
	require.NoError(t, err)
	n, err := g.Nodes()
	require.NoError(t, err)
	require.Equal(t, 3, n)
	exec, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, g.Destroy())
	require.Equal(t, []float32{0, 10}, cudatest.Download(t, x, 2), "recorded, not run")
	for range 4 {
		require.NoError(t, exec.Launch(s))
	}
	require.Equal(t, []float32{12, 22}, cudatest.Download(t, x, 2))
	require.NoError(t, exec.Destroy())
	_, err = driver.EndCapture(s)
	require.Error(t, err, "nothing is captured")
	if !cudatest.Real() { // the driver's documentation names no code
		require.ErrorIs(t, err, cu.IllegalState)
	}
}

func TestLargeSharedMemory(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, kernels), "big")
	x := cudatest.Upload(t, []float32{1, 2, 3, 4})
	arg := uint64(x)
	d, err := driver.Describe(0)
	require.NoError(t, err)
	launch := func() error {
		return f.Launch(1, 1, 1, 4, 1, 1, d.SharedOptIn, cu.NoStream, []unsafe.Pointer{unsafe.Pointer(&arg)})
	}
	require.ErrorIs(t, launch(), cu.InvalidValue)
	require.NoError(t, driver.SetFuncAttribute(f, driver.MaxDynamicShared, d.SharedOptIn))
	require.NoError(t, driver.SetFuncAttribute(f, driver.PreferredShared, 100))
	require.NoError(t, launch())
	require.Equal(t, []float32{4, 3, 2, 1}, cudatest.Download(t, x, 4))
}

func TestDescribe(t *testing.T) {
	require.NoError(t, driver.Init())
	_, err := driver.Describe(99)
	require.ErrorIs(t, err, cu.InvalidDevice)
}
