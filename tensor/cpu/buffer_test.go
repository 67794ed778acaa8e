package cpu

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/sharedmem"
	"github.com/agrdist/agrdist/tensor"
)

// Free gives room back once; a view or a second call gives nothing.
func TestAllocCountsWhatIsInUse(t *testing.T) {
	be := New(Config{Threads: 1, Kernels: "go"})
	defer func() { require.NoError(t, be.Close()) }()
	const room = 1000 // elements
	be.limit = 2*room*8 + 2*(alignment+slack)
	alloc := func() (tensor.Buffer, error) { return be.Alloc(tensor.I64, room) }

	a, err := alloc()
	require.NoError(t, err)
	_, err = alloc()
	require.NoError(t, err)
	_, err = alloc()
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorContains(t, err, "in use")

	be.Free(be.Slice(a, 0, 10))
	_, err = alloc()
	require.ErrorIs(t, err, ErrMemory, "a view holds nothing to give back")
	be.Free(a)
	be.Free(a)
	_, err = alloc()
	require.NoError(t, err)
	_, err = alloc()
	require.ErrorIs(t, err, ErrMemory, "the second Free gave nothing")
}

func TestBuffersBeginOnCacheLinesAndHaveSlack(t *testing.T) {
	for n := range 40 {
		for range 4 {
			f, h, i := aligned[float32](n), aligned[uint16](n), aligned[int64](n)
			require.Len(t, f, n)
			for _, p := range []unsafe.Pointer{
				unsafe.Pointer(unsafe.SliceData(f)), unsafe.Pointer(unsafe.SliceData(h)), unsafe.Pointer(unsafe.SliceData(i)),
			} {
				require.Zero(t, uintptr(p)%alignment)
			}
			require.GreaterOrEqual(t, 4*(cap(f)-n), slack)
			require.GreaterOrEqual(t, 2*(cap(h)-n), slack)
			require.GreaterOrEqual(t, 8*(cap(i)-n), slack)
		}
	}
}

// A large buffer that is to be shared lies in a block until it is freed; where
// there is none, and for small ones, it is an ordinary buffer.
func TestAllocShared(t *testing.T) {
	be := New(Config{Threads: 1, Kernels: "go"})
	defer func() { require.NoError(t, be.Close()) }()
	for _, n := range []int{0, 100, sharedmem.Worth / 4, sharedmem.Worth/4 + 7} {
		b, err := be.AllocShared(tensor.F32, n)
		require.NoError(t, err)
		f := b.(tensor.Host).Float32s()
		require.Len(t, f, n)
		require.GreaterOrEqual(t, 4*(cap(f)-n), slack)
		require.Zero(t, uintptr(unsafe.Pointer(unsafe.SliceData(f)))%alignment)
		_, _, shared := sharedmem.Find(f)
		require.Equal(t, runtime.GOOS == "linux" && n >= sharedmem.Worth/4, shared)
		require.Positive(t, be.used)

		be.Free(be.Slice(b, 0, n))
		_, _, still := sharedmem.Find(f)
		require.Equal(t, shared, still, "a view holds nothing to give back")
		be.Free(b)
		be.Free(b)
		require.Zero(t, be.used)
		_, _, still = sharedmem.Find(f)
		require.False(t, still)
	}
	b, err := be.AllocShared(tensor.I64, sharedmem.Worth)
	require.NoError(t, err)
	be.Free(b)
	be.limit = sharedmem.Worth
	_, err = be.AllocShared(tensor.F32, sharedmem.Worth)
	require.ErrorIs(t, err, ErrMemory)
}

// Close gives back the blocks that no garbage collector takes: a program that evaluates
// many models, one after another, would keep all their gradients.
func TestCloseEndsSharedBuffers(t *testing.T) {
	be := New(Config{Threads: 1})
	b, err := be.AllocShared(tensor.F32, sharedmem.Worth)
	require.NoError(t, err)
	v := b.(tensor.Host).Float32s()
	_, _, shared := sharedmem.Find(v)
	require.NoError(t, be.Close())
	_, _, after := sharedmem.Find(v)
	require.False(t, after)
	require.Equal(t, runtime.GOOS == "linux", shared)
	be.Free(b) // of a closed backend: nothing happens
	require.NoError(t, be.Close())
}
