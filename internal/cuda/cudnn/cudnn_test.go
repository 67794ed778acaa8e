//go:build cuda

package cudnn_test

import (
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/internal/cuda/dl"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }

// device is a handle on the first device and a stream of its own.
type device struct {
	t      *testing.T
	handle *cudnn.Handle
	stream cu.Stream
}

func newDevice(t *testing.T) *device {
	t.Helper()
	require.NoError(t, driver.Init())
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	dev, err := cu.GetDevice(0)
	require.NoError(t, err)
	ctx, err := dev.RetainPrimaryCtx()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.ReleasePrimaryCtx()) })
	require.NoError(t, cu.SetCurrentContext(ctx))
	d := &device{t: t}
	d.stream, err = cu.MakeStream(cu.NonBlocking)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.stream.Destroy()) })
	lib, err := cudnn.Open()
	require.NoError(t, err)
	require.NotEmpty(t, lib.Path())
	require.GreaterOrEqual(t, lib.Version(), 90000)
	d.handle, err = lib.NewHandle(uintptr(unsafe.Pointer(d.stream.C())))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.handle.Destroy())
		require.NoError(t, d.handle.Destroy(), "Destroy is idempotent")
	})
	return d
}

// What cuDNN's engines look for by SONAME is loaded before them.
func TestOpenLoadsWhatEnginesNeed(t *testing.T) {
	_, err := cudnn.Open()
	require.NoError(t, err)
	for _, name := range []string{"libcublasLt.so", "libnvrtc.so"} {
		require.True(t, dl.Loaded(name+".12") || dl.Loaded(name+".13"), name)
	}
}

// memory is device memory with the values, or room for as many.
func (d *device) memory(v []float32) uintptr {
	d.t.Helper()
	p, err := cu.MemAlloc(int64(4*len(v)) + 256)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { require.NoError(d.t, cu.MemFree(p)) })
	require.NoError(d.t, cu.MemcpyHtoD(p, unsafe.Pointer(&v[0]), int64(4*len(v))))
	return uintptr(p)
}

func (d *device) read(p uintptr, n int) []float32 {
	d.t.Helper()
	v := make([]float32, n)
	require.NoError(d.t, d.stream.Synchronize())
	require.NoError(d.t, cu.MemcpyDtoH(unsafe.Pointer(&v[0]), cu.DevicePtr(p), int64(4*n)))
	return v
}

func ramp(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%7-3) / 4
	}
	return v
}

var problem = cudnn.Problem{N: 2, H: 5, W: 4, C: 8, K: 16, Kernel: 3, Stride: 2, Pad: 1, MaxWorkspace: 1 << 20}

const lenX, lenF, lenY = 2 * 5 * 4 * 8, 16 * 9 * 8, 2 * 3 * 2 * 16

// direct is the convolution of x with f, both in the library's layouts.
func direct(x, f []float32) []float32 {
	y := make([]float32, lenY)
	for i := range y {
		n, oy, ox, k := i/16/2/3, i/16/2%3, i/16%2, i%16
		for tap := range 9 {
			iy, ix := 2*oy+tap/3-1, 2*ox+tap%3-1
			if iy < 0 || iy >= 5 || ix < 0 || ix >= 4 {
				continue
			}
			for c := range 8 {
				y[i] += x[((n*5+iy)*4+ix)*8+c] * f[(k*9+tap)*8+c]
			}
		}
	}
	return y
}

// The three directions belong to one bilinear form: <y, conv(x, f)> is <x, dx> and
// <f, df>, and conv itself is what the definition says. Values are sums of few
// binary digits: exact in every precision of the operands.
func TestDirections(t *testing.T) {
	dot := func(a, b []float32) (s float64) {
		for i, v := range a {
			s += float64(v) * float64(b[i])
		}
		return s
	}
	d := newDevice(t)
	x, f, y := ramp(lenX), ramp(lenF), ramp(lenY)
	px, pf, py := d.memory(x), d.memory(f), d.memory(y)
	want := direct(x, f)
	for _, compute := range []cudnn.Compute{cudnn.F32, cudnn.TF32} {
		for dir, out := range map[cudnn.Direction]int{cudnn.Forward: lenY, cudnn.InputGrad: lenX, cudnn.WeightGrad: lenF} {
			p := problem
			p.Direction, p.Compute = dir, compute
			plan, err := d.handle.Plan(p)
			require.NoError(t, err)
			result, work := d.memory(make([]float32, out)), d.memory(make([]float32, plan.Workspace()/4+1))
			at := map[cudnn.Direction]uintptr{cudnn.InputGrad: px, cudnn.WeightGrad: pf, cudnn.Forward: py}
			at[dir] = result
			run := func() []float32 {
				require.NoError(t, plan.Run(at[cudnn.InputGrad], at[cudnn.WeightGrad], at[cudnn.Forward], work))
				return d.read(result, out)
			}
			got := run()
			switch dir {
			case cudnn.Forward:
				require.Equal(t, want, got, p)
			case cudnn.InputGrad:
				require.Equal(t, dot(y, want), dot(x, got), p)
			case cudnn.WeightGrad:
				require.Equal(t, dot(y, want), dot(f, got), p)
			}
			require.Equal(t, got, run(), "%v: a deterministic algorithm", p)
			plan.Destroy()
		}
	}
}

// What the library refuses comes back in its own words.
func TestRefusals(t *testing.T) {
	d := newDevice(t)
	bad := problem
	bad.K = 0
	_, err := d.handle.Plan(bad)
	require.ErrorIs(t, err, cudnn.ErrStatus)
	require.ErrorContains(t, err, "CUDNN_STATUS_BAD_PARAM")

	cudatest.Doubles(t, "a device has algorithms without workspace, and runs what follows or breaks")
	small := problem
	small.MaxWorkspace = 0
	_, err = d.handle.Plan(small)
	require.ErrorIs(t, err, cudnn.ErrNoAlgorithm)
	require.ErrorContains(t, err, "for the forward of [2 5 4 8] to 16 channels")
	odd := problem
	odd.Compute, odd.C = cudnn.BF16, 3
	_, err = d.handle.Plan(odd)
	require.ErrorIs(t, err, cudnn.ErrNoAlgorithm, "the library supports no such shape")
	t.Setenv("AGRDIST_FAKE_CUDNN", "none")
	_, err = d.handle.Plan(problem)
	require.ErrorIs(t, err, cudnn.ErrNoAlgorithm)
	t.Setenv("AGRDIST_FAKE_CUDNN", "")

	plan, err := d.handle.Plan(problem)
	require.NoError(t, err)
	defer plan.Destroy()
	x, f, y := d.memory(ramp(lenX)), d.memory(ramp(lenF)), d.memory(ramp(lenY))
	work := d.memory(make([]float32, plan.Workspace()/4+1))
	require.NoError(t, plan.Run(x, f, y, work))
	for name, c := range map[string]struct {
		x, f, y, work uintptr
		text          string
	}{
		"alignment":     {x + 4, f, y, work, "MISALIGNED_POINTER: an operand is not aligned"},
		"null":          {0, f, y, work, "an operand is not within memory"},
		"length":        {x, f, y + 1024, work, "an operand is not within memory"},
		"overlap":       {x, f, x, work, "operands overlap"},
		"no workspace":  {x, f, y, 0, "workspace"},
		"the workspace": {x, f, y, y, "operands overlap"},
	} {
		require.ErrorContains(t, plan.Run(c.x, c.f, c.y, c.work), c.text, name)
	}
	require.NoError(t, d.stream.Synchronize())
}

func TestHandleWantsAContext(t *testing.T) {
	cudatest.Doubles(t, "the library itself makes the primary context current")
	require.NoError(t, driver.Init())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, cu.SetCurrentContext(cu.CUContext{}))
	lib, err := cudnn.Open()
	require.NoError(t, err)
	_, err = lib.NewHandle(0)
	require.ErrorContains(t, err, "cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED")
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Setenv(cudnn.EnvLibrary, "/nowhere/libcudnn.so.9")
	_, err := cudnn.Open()
	require.ErrorContains(t, err, "/nowhere/libcudnn.so.9")
	require.ErrorContains(t, err, cudnn.EnvLibrary)
	t.Setenv(cudnn.EnvLibrary, os.Getenv("AGRDIST_LIBCUBLASLT")) // another library
	if !cudatest.Real() {
		_, err = cudnn.Open()
		require.ErrorContains(t, err, "cudnnGetVersion")
	}
}
