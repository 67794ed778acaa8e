//go:build cuda

package cudatest

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// Context makes the primary context of a device current for the test, which stays on
// its thread of the system, and lets go of it when the test ends; then the one that
// was current before is current again.
func Context(tb testing.TB, ordinal int) cu.Device {
	tb.Helper()
	require.NoError(tb, driver.Init())
	runtime.LockOSThread()
	before, err := cu.CurrentContext()
	require.NoError(tb, err)
	dev, err := cu.GetDevice(ordinal)
	require.NoError(tb, err)
	ctx, err := dev.RetainPrimaryCtx()
	require.NoError(tb, err)
	require.NoError(tb, cu.SetCurrentContext(ctx))
	tb.Cleanup(func() {
		require.NoError(tb, dev.ReleasePrimaryCtx())
		require.NoError(tb, cu.SetCurrentContext(before))
		runtime.UnlockOSThread()
	})
	return dev
}

// Stream makes a stream that does not wait for the default stream.
func Stream(tb testing.TB) cu.Stream {
	tb.Helper()
	s, err := cu.MakeStream(cu.NonBlocking)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Destroy()) })
	return s
}

// Module compiles CUDA C++ for the device and loads it.
func Module(tb testing.TB, dev cu.Device, src string, opts ...string) cu.Module {
	tb.Helper()
	d, err := driver.Describe(int(dev))
	require.NoError(tb, err)
	image, log, err := nvrtc.Compile(src, tb.Name()+".cu", d.Arch(), opts...)
	require.NoError(tb, err, log)
	m, err := cu.LoadData(string(image))
	require.NoError(tb, err)
	return m
}

// Function finds a kernel.
func Function(tb testing.TB, m cu.Module, name string) cu.Function {
	tb.Helper()
	f, err := m.Function(name)
	require.NoError(tb, err)
	return f
}

// Launch runs a kernel on blocks x threads; each argument is the parameter in the
// lower bytes of a word, as cu hands it over.
func Launch(f cu.Function, s cu.Stream, blocks, threads int, args ...uint64) error {
	params := make([]unsafe.Pointer, len(args))
	for i := range args {
		params[i] = unsafe.Pointer(&args[i])
	}
	return f.Launch(blocks, 1, 1, threads, 1, 1, 0, s, params)
}

// Alloc returns device memory for n float32, freed when the test ends.
func Alloc(tb testing.TB, n int) cu.DevicePtr {
	tb.Helper()
	p, err := cu.MemAlloc(int64(4 * n))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = cu.MemFree(p) }) // a test may have broken the context
	return p
}

// Upload returns device memory with the values.
func Upload(tb testing.TB, values []float32) cu.DevicePtr {
	tb.Helper()
	p := Alloc(tb, len(values))
	require.NoError(tb, cu.MemcpyHtoD(p, unsafe.Pointer(unsafe.SliceData(values)), int64(4*len(values))))
	return p
}

// Download returns n float32 of device memory, after all that was put on any stream.
func Download(tb testing.TB, p cu.DevicePtr, n int) []float32 {
	tb.Helper()
	require.NoError(tb, cu.Synchronize())
	values := make([]float32, n)
	require.NoError(tb, cu.MemcpyDtoH(unsafe.Pointer(unsafe.SliceData(values)), p, int64(4*n)))
	return values
}
