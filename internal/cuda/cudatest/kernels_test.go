//go:build cuda

package cudatest_test

import (
	"math"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

func TestMain(m *testing.M) {
	if err := os.Setenv("AGRDIST_FAKE_GPUS", "2"); err != nil {
		panic(err)
	}
	os.Exit(cudatest.Main(m))
}

// count returns 0, 1, ..., n-1.
func count(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)
	}
	return x
}

const features = `
typedef unsigned int u32;
template <class T, int N>
__device__ __forceinline__ T total(T v, T *room) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  __syncthreads();
  if (threadIdx.x % warpSize == 0) room[threadIdx.x / warpSize] = v;
  __syncthreads();
  T s = room[0];
  for (int i = 1; i < N; i++) s += room[i];
  return s;
}
// One double and one float room: two instances of a template's shared memory.
template <class T>
__device__ T blockTotal(T v) {
  __shared__ T room[4];
  return total<T, 4>(v, room);
}
extern "C" __global__ void __launch_bounds__(128) totals(float *__restrict__ out, const float *__restrict__ x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float v = i < n ? x[i] : 0;
  double d = blockTotal((double)v);
  float f = blockTotal(v);
  if (threadIdx.x == 0) { out[2 * blockIdx.x] = f; out[2 * blockIdx.x + 1] = (float)d; }
}
#define COPY(name, T) \
  extern "C" __global__ void name(T *y, const T *x, int n) { \
    int i = blockIdx.x * blockDim.x + threadIdx.x; \
    if (i < n) y[i] = __ldg(x + i); \
  }
COPY(copy4, float4)
COPY(copy1, float)
extern "C" __global__ void lanes(float *out) {
  u32 lane = threadIdx.x % 32;
  u32 odd = __ballot_sync(0xffffffffu, lane & 1);
  float v = (float)threadIdx.x;
  float *o = out + threadIdx.x * 6;
  o[0] = (float)__popc(odd);
  o[1] = __shfl_sync(0xffffffffu, v, 5);
  o[2] = __shfl_down_sync(0xffffffffu, v, 1);
  o[3] = __shfl_up_sync(0xffffffffu, v, 2, 8);
  o[4] = lane < 16 ? __shfl_xor_sync(0x0000ffffu, v, 1) : -__shfl_xor_sync(0xffff0000u, v, 1);
  __syncwarp();
  o[5] = (float)__any_sync(0xffffffffu, threadIdx.x == 40);
}
extern "C" __global__ void visits(int *seen, int *total) {
  int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  atomicAdd(total, 1);
  atomicAdd(seen + b * blockDim.x * blockDim.y * blockDim.z + t, 1);
}
extern "C" __global__ void reverse(float *x, int n) {
  extern __shared__ __align__(16) float room[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) room[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = room[n - 1 - i];
}
`

func TestReductions(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, features), "totals")
	const n = 1000
	x, out := cudatest.Upload(t, count(n)), cudatest.Alloc(t, 16)
	require.NoError(t, cudatest.Launch(f, cu.NoStream, 8, 128, uint64(out), uint64(x), n))
	got := cudatest.Download(t, out, 16)
	for b := range 8 {
		var want float32
		for i := 128 * b; i < min(128*(b+1), n); i++ {
			want += float32(i)
		}
		require.Equal(t, []float32{want, want}, got[2*b:2*b+2], "block %d", b)
	}
	require.Error(t, cudatest.Launch(f, cu.NoStream, 1, 256, uint64(out), uint64(x), n), "more threads than the bounds say")
}

func TestVectorsAndMacros(t *testing.T) {
	dev := cudatest.Context(t, 0)
	m := cudatest.Module(t, dev, features)
	want := count(128)
	x, y := cudatest.Upload(t, want), cudatest.Alloc(t, 128)
	require.NoError(t, cudatest.Launch(cudatest.Function(t, m, "copy4"), cu.NoStream, 1, 32, uint64(y), uint64(x), 32))
	require.Equal(t, want, cudatest.Download(t, y, 128))
	require.NoError(t, cudatest.Launch(cudatest.Function(t, m, "copy1"), cu.NoStream, 2, 32, uint64(y), uint64(x)+4, 64))
	require.Equal(t, want[1:65], cudatest.Download(t, y, 64))
	_, err := m.Function("copy2")
	require.ErrorIs(t, err, cu.NotFound)
}

func TestLanes(t *testing.T) {
	dev := cudatest.Context(t, 0)
	out := cudatest.Alloc(t, 64*6)
	f := cudatest.Function(t, cudatest.Module(t, dev, features), "lanes")
	require.NoError(t, cudatest.Launch(f, cu.NoStream, 1, 64, uint64(out)))
	got := cudatest.Download(t, out, 64*6)
	for i := range 64 {
		warp, lane := i/32*32, i%32
		down := min(lane+1, 31)
		up := lane
		if lane%8 >= 2 {
			up = lane - 2
		}
		xor := float32(warp + lane ^ 1)
		if lane >= 16 {
			xor = -xor
		}
		want := []float32{16, float32(warp + 5), float32(warp + down), float32(warp + up), xor, float32(warp / 32)}
		require.Equal(t, want, got[6*i:6*i+6], "thread %d", i)
	}
}

// TestEveryThreadOnce: a grid of three dimensions, each thread of each block runs
// exactly once.
func TestEveryThreadOnce(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, features), "visits")
	const blocks, threads = 5 * 3 * 2, 8 * 4 * 3
	seen, total := cudatest.Alloc(t, blocks*threads), cudatest.Alloc(t, 1)
	require.NoError(t, cu.MemsetD32(seen, 0, blocks*threads))
	require.NoError(t, cu.MemsetD32(total, 0, 1))
	a, b := uint64(seen), uint64(total)
	require.NoError(t, f.Launch(5, 3, 2, 8, 4, 3, 0, cu.NoStream, []unsafe.Pointer{unsafe.Pointer(&a), unsafe.Pointer(&b)}))
	require.Equal(t, math.Float32frombits(blocks*threads), cudatest.Download(t, total, 1)[0])
	for i, v := range cudatest.Download(t, seen, blocks*threads) {
		require.Equal(t, math.Float32frombits(1), v, "thread %d", i)
	}
}

// TestDynamicShared: more than 48 KiB of it needs leave.
func TestDynamicShared(t *testing.T) {
	dev := cudatest.Context(t, 0)
	f := cudatest.Function(t, cudatest.Module(t, dev, features), "reverse")
	const n = 20000
	x := cudatest.Upload(t, count(n))
	a, b := uint64(x), uint64(n)
	launch := func() error {
		return f.Launch(1, 1, 1, 128, 1, 1, 4*n, cu.NoStream, []unsafe.Pointer{unsafe.Pointer(&a), unsafe.Pointer(&b)})
	}
	require.ErrorIs(t, launch(), cu.InvalidValue)
	require.NoError(t, driver.SetFuncAttribute(f, driver.MaxDynamicShared, 4*n))
	require.NoError(t, launch())
	got := cudatest.Download(t, x, n)
	for i, v := range got {
		require.Equal(t, float32(n-1-i), v)
	}
	require.ErrorIs(t, driver.SetFuncAttribute(f, driver.MaxDynamicShared, 1<<20), cu.InvalidValue)
}
