//go:build cuda

package cuda_test

import (
	"math"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
	"github.com/agrdist/agrdist/tensor/cuda"
)

// normal returns n standard normal values; different ids give different ones.
func normal(id, n int) []float32 {
	v := make([]float32, n)
	rng.New(5, rng.StreamNoise).Normal(v, uint64(id))
	return v
}

// alloc is a buffer with the given content until the test ends.
func alloc(tb testing.TB, be tensor.Backend, dt tensor.DType, v []float32) tensor.Buffer {
	tb.Helper()
	buf, err := be.Alloc(dt, len(v))
	require.NoError(tb, err)
	tb.Cleanup(func() { be.Free(buf) })
	be.Upload(buf, v)
	return buf
}

func download(tb testing.TB, be tensor.Backend, buf tensor.Buffer) []float32 {
	tb.Helper()
	v := make([]float32, buf.Len())
	require.NoError(tb, be.Download(v, buf))
	return v
}

func TestUnknownDevice(t *testing.T) {
	for _, device := range []int{-1, 99} {
		_, err := cuda.New(cuda.Config{Device: device})
		require.ErrorIs(t, err, cuda.ErrUnavailable)
	}
}

// A copy onto itself asks for nothing, one onto other memory for a copy.
func TestCopyOntoItself(t *testing.T) {
	be := open(t)
	want := normal(3, 100)
	buf, other := alloc(t, be, tensor.F32, want), alloc(t, be, tensor.F32, make([]float32, 60))
	part := func() tensor.Tensor { return tensor.Tensor{Buf: be.Slice(buf, 40, 60), Shape: tensor.Of(60)} }
	require.Zero(t, cudatest.CallsOf(t, func() { be.Copy(part(), part()) }))
	require.Equal(t, want, download(t, be, buf))
	calls := cudatest.CallsOf(t, func() { be.Copy(tensor.Tensor{Buf: other, Shape: tensor.Of(60)}, part()) })
	require.Equal(t, cudatest.Calls{Copies: 1}, calls)
	require.Equal(t, want[40:], download(t, be, other))
}

// envChild marks a process that TestWithoutDriver starts.
const envChild = "AGRDIST_TEST_WITHOUT_DRIVER"

// Without a driver the program runs, and New says what is missing. The driver is
// loaded once a process, so this takes another one.
func TestWithoutDriver(t *testing.T) {
	const missing = "/nonexistent/libcuda.so.1"
	if os.Getenv(envChild) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWithoutDriver$")
		cmd.Env = append(os.Environ(), envChild+"=1", cudatest.GPUVariable+"=1", driver.LibraryVariable+"="+missing)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	_, err := cuda.New(cuda.Config{})
	require.ErrorIs(t, err, cuda.ErrUnavailable)
	require.ErrorIs(t, err, driver.ErrNoLibrary)
	require.ErrorContains(t, err, missing)
}

// A library that is missing is named, and what was opened before it is closed.
func TestWithoutLibraries(t *testing.T) {
	for _, variable := range []string{"AGRDIST_LIBCUDNN", "AGRDIST_LIBCUBLASLT"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "/nonexistent/library.so")
			_, err := cuda.New(cuda.Config{})
			require.ErrorContains(t, err, "/nonexistent/library.so")
		})
	}
	open(t)
}

// The error of an allocation names what was asked for and what there is, and the
// backend continues.
func TestOutOfMemory(t *testing.T) {
	be := open(t)
	free, total, err := be.MemInfo()
	require.NoError(t, err)
	require.Positive(t, free)
	require.LessOrEqual(t, free, total)
	_, err = be.Alloc(tensor.I64, int(total/8)+1)
	require.ErrorIs(t, err, cuda.ErrMemory)
	require.ErrorContains(t, err, be.Name())
	require.ErrorContains(t, err, "bytes asked for")
	require.ErrorContains(t, err, "free")
	_, err = be.Alloc(tensor.F32, math.MaxInt)
	require.ErrorIs(t, err, cuda.ErrMemory)
	require.NoError(t, be.Sync())
}

func TestForeignBuffers(t *testing.T) {
	be, other := open(t), open(t)
	host := cpu.New(cpu.Config{Threads: 1})
	defer host.Close()
	for _, stranger := range []tensor.Backend{host, other} {
		b := alloc(t, stranger, tensor.F32, []float32{1})
		x := tensor.Tensor{Buf: b, Shape: tensor.Of(1)}
		require.Panics(t, func() { be.Fill(x, 1) })
		require.Panics(t, func() { be.Free(b) })
		require.Panics(t, func() { be.Slice(b, 0, 1) })
	}
	_, ok := cuda.Pointer(alloc(t, host, tensor.F32, []float32{1}))
	require.False(t, ok)
	p, ok := cuda.Pointer(alloc(t, be, tensor.F32, []float32{1}))
	require.True(t, ok)
	require.Zero(t, p%256, "alignment of an allocation")
}

// Freeing a view, or a buffer twice, does nothing.
func TestFree(t *testing.T) {
	be := open(t)
	buf, err := be.Alloc(tensor.F32, 8)
	require.NoError(t, err)
	view := be.Slice(buf, 2, 3)
	be.Free(view)
	be.Upload(buf, normal(1, 8))
	require.Equal(t, normal(1, 8)[2:5], download(t, be, view))
	be.Free(buf)
	be.Free(buf)
	require.NoError(t, be.Sync())
}

// An operation that the device cannot run is reported by Sync and Download, and
// stays.
func TestFailureSticks(t *testing.T) {
	be, err := cuda.New(cuda.Config{})
	require.NoError(t, err)
	buf, err := be.Alloc(tensor.F32, 8)
	require.NoError(t, err)
	x := tensor.Tensor{Buf: buf, Shape: tensor.Of(8)}
	be.FailForTest()
	be.Fill(x, 1)
	first := be.Sync()
	require.Error(t, first)
	require.Equal(t, first, be.Download(make([]float32, 8), buf))
	require.NoError(t, be.Close())
}

// A view of another type shows the bytes that are there, and no others.
func TestSliceAs(t *testing.T) {
	be := open(t)
	buf := alloc(t, be, tensor.F32, make([]float32, 130))
	v := roundBits(normal(4, 64), bf16Bits)
	half := be.SliceAs(buf, tensor.BF16, 64, len(v))
	require.Equal(t, tensor.BF16, half.DType())
	be.Upload(half, v)
	require.Equal(t, v, download(t, be, half))
	whole := download(t, be, buf)
	require.NotZero(t, whole[64])
	for i, x := range whole {
		if i < 64 || i >= 96 {
			require.Zero(t, x, i)
		}
	}
	require.Equal(t, 132, be.SliceAs(buf, tensor.BF16, 64, 132).Len())
	require.Panics(t, func() { be.SliceAs(buf, tensor.BF16, 64, 133) })
	require.Panics(t, func() { be.SliceAs(buf, tensor.BF16, -1, 1) })
	require.Panics(t, func() { be.SliceAs(half, tensor.F32, 0, 1) })
}
