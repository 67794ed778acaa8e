//go:build cuda

package cublaslt_test

import (
	"math"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }

// device is a handle on the first device and a stream.
type device struct {
	t      *testing.T
	handle *cublaslt.Handle
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
	lib, err := cublaslt.Open()
	require.NoError(t, err)
	require.NotEmpty(t, lib.Path())
	require.GreaterOrEqual(t, lib.Version(), 120000)
	d.handle, err = lib.NewHandle()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.handle.Destroy())
		require.NoError(t, d.handle.Destroy(), "Destroy is idempotent")
	})
	return d
}

func (d *device) run(p *cublaslt.Plan, alpha, beta float32, a, b, c, work uintptr) error {
	return p.Run(uintptr(unsafe.Pointer(d.stream.C())), alpha, beta, a, b, c, work)
}

// memory is device memory with the values.
func (d *device) memory(v []float32) uintptr {
	d.t.Helper()
	p, err := cu.MemAlloc(int64(4*len(v)) + 256)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { require.NoError(d.t, cu.MemFree(p)) })
	if len(v) > 0 {
		require.NoError(d.t, cu.MemcpyHtoD(p, unsafe.Pointer(&v[0]), int64(4*len(v))))
	}
	return uintptr(p)
}

// halves is device memory with the values, an even number that BF16 has, as BF16.
func (d *device) halves(v []float32) uintptr {
	d.t.Helper()
	pairs := make([]float32, len(v)/2)
	for i := range pairs {
		lo, hi := math.Float32bits(v[2*i]), math.Float32bits(v[2*i+1])
		require.Zero(d.t, (lo|hi)&0xffff)
		pairs[i] = math.Float32frombits(lo>>16 | hi)
	}
	return d.memory(pairs)
}

// widened undoes halves.
func widened(pairs []float32) []float32 {
	v := make([]float32, 0, 2*len(pairs))
	for _, p := range pairs {
		bits := math.Float32bits(p)
		v = append(v, math.Float32frombits(bits<<16), math.Float32frombits(bits&^0xffff))
	}
	return v
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
		v[i] = float32(i%11-5) / 4
	}
	return v
}

func problem() cublaslt.Problem {
	return cublaslt.Problem{M: 3, N: 5, K: 4, Batch: 2, AlignA: 256, AlignB: 256, AlignC: 256, MaxWorkspace: 1 << 20}
}

// Row-major products in every transposition, on values of few binary digits:
// exact in every precision.
func TestProducts(t *testing.T) {
	d := newDevice(t)
	for i := range 16 {
		p := problem()
		p.TransA, p.TransB = i&1 != 0, i&2 != 0
		p.Compute = [...]cublaslt.Compute{cublaslt.F32, cublaslt.TF32, cublaslt.BF16, cublaslt.BF16}[i/4]
		p.Narrow = i/4 == 3
		a, b, c := ramp(p.Batch*p.M*p.K), ramp(p.Batch*p.K*p.N), ramp(p.Batch*p.M*p.N)
		want := make([]float32, len(c))
		for i := range want {
			s, r, col := i/(p.M*p.N), i/p.N%p.M, i%p.N
			var sum float32
			for k := range p.K {
				ai, bi := r*p.K+k, k*p.N+col
				if p.TransA {
					ai = k*p.M + r
				}
				if p.TransB {
					bi = col*p.K + k
				}
				sum += a[s*p.M*p.K+ai] * b[s*p.K*p.N+bi]
			}
			want[i] = 2*sum + 0.5*c[i]
		}
		plan, err := d.handle.Plan(p)
		require.NoError(t, err)
		work := d.memory(make([]float32, plan.Workspace()/4+1))
		operand, result := d.memory, d.memory
		if p.Compute == cublaslt.BF16 {
			operand = d.halves
		}
		if p.Narrow {
			result = d.halves
		}
		pc := result(c)
		require.NoError(t, d.run(plan, 2, 0.5, operand(a), operand(b), pc, work))
		if p.Narrow {
			require.Equal(t, want, widened(d.read(pc, len(c)/2)), p)
		} else {
			require.Equal(t, want, d.read(pc, len(c)), p)
		}
		plan.Destroy()
	}
}

// A product gives the same bits each time, where sums that are split in place would
// not.
func TestDeterministic(t *testing.T) {
	d := newDevice(t)
	p := problem()
	p.K = 3000
	v := make([]float32, p.Batch*p.K*p.N)
	for i := range v {
		v[i] = float32(i%1013) / 1013
	}
	a, b, c := d.memory(v), d.memory(v), d.memory(make([]float32, p.Batch*p.M*p.N))
	plan, err := d.handle.Plan(p)
	require.NoError(t, err)
	defer plan.Destroy()
	work := d.memory(make([]float32, plan.Workspace()/4+1))
	var first []float32
	for i := range 5 {
		require.NoError(t, d.run(plan, 1, 0, a, b, c, work))
		got := d.read(c, p.Batch*p.M*p.N)
		if i == 0 {
			first = got
		}
		require.Equal(t, first, got)
	}
}

// What the library refuses comes back in its own words.
func TestRefusals(t *testing.T) {
	d := newDevice(t)
	bad := problem()
	bad.K = 0
	_, err := d.handle.Plan(bad)
	require.ErrorIs(t, err, cublaslt.ErrStatus)
	require.Regexp(t, "CUBLAS_STATUS_(INVALID_VALUE|NOT_SUPPORTED)", err.Error())
	cudatest.Doubles(t, "a device would run what follows, or break")
	p := problem()
	plan, err := d.handle.Plan(p)
	require.NoError(t, err)
	defer plan.Destroy()
	a, b, c := d.memory(ramp(24)), d.memory(ramp(40)), d.memory(ramp(30))
	work := d.memory(make([]float32, plan.Workspace()/4+1))
	require.NoError(t, d.run(plan, 1, 0, a, b, c, work))
	for name, err := range map[string]error{
		"alignment":     d.run(plan, 1, 0, a+4, b, c, work),
		"memory":        d.run(plan, 1, 0, a+1024, b, c, work),
		"overlap":       d.run(plan, 1, 0, c, b, c, work),
		"the workspace": d.run(plan, 1, 0, a, b, c, c),
	} {
		require.ErrorIs(t, err, cublaslt.ErrStatus, name)
	}
	// An algorithm for pointers that are aligned less takes them.
	p.AlignA = 4
	less, err := d.handle.Plan(p)
	require.NoError(t, err)
	defer less.Destroy()
	require.NoError(t, d.run(less, 1, 0, a+4, b, c, work))
	require.NoError(t, d.stream.Synchronize())
}

// Where the library says that it cannot run its best algorithm, the next one is taken.
func TestNextAlgorithm(t *testing.T) {
	d := newDevice(t)
	cudatest.Doubles(t, "a device's library has no such algorithm that we know of")
	best, err := d.handle.Plan(problem())
	require.NoError(t, err)
	defer best.Destroy()
	t.Setenv("AGRDIST_FAKE_CUBLASLT", "refuse")
	next, err := d.handle.Plan(problem())
	require.NoError(t, err)
	defer next.Destroy()
	require.NotEqual(t, best.Workspace(), next.Workspace())
	a, b, c := d.memory(ramp(24)), d.memory(ramp(40)), d.memory(ramp(30))
	require.NoError(t, d.run(next, 1, 0, a, b, c, d.memory(make([]float32, next.Workspace()/4+1))))
	require.NoError(t, d.stream.Synchronize())
}

func TestHandleWantsAContext(t *testing.T) {
	cudatest.Doubles(t, "the library itself makes the primary context current")
	require.NoError(t, driver.Init())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, cu.SetCurrentContext(cu.CUContext{}))
	lib, err := cublaslt.Open()
	require.NoError(t, err)
	_, err = lib.NewHandle()
	require.ErrorContains(t, err, "cublasLtCreate: the library was not initialized (CUBLAS_STATUS_NOT_INITIALIZED)")
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Setenv(cublaslt.EnvLibrary, "/nowhere/libcublasLt.so.12")
	_, err := cublaslt.Open()
	require.ErrorContains(t, err, "/nowhere/libcublasLt.so.12")
	require.ErrorContains(t, err, cublaslt.EnvLibrary)
}
