//go:build cuda

package selftest

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

// ErrResult is in the chain where a library computed something wrong.
var ErrResult = errors.New("selftest: wrong result")

// kernel doubles what it is given.
const kernel = `extern "C" __global__ void twice(float *x) { x[threadIdx.x] += x[threadIdx.x]; }`

// Compile compiles a kernel for an architecture (sm_90). It needs no GPU.
func Compile(arch string) ([]byte, error) {
	image, log, err := nvrtc.Compile(kernel, "selftest.cu", arch)
	if err != nil && log != "" {
		err = fmt.Errorf("%w: %s", err, log)
	}
	return image, err
}

// Result is what became of each library; nil is success.
type Result struct {
	Device error // context and memory; the others are nil then, not having been tried
	NVRTC  error // compile a kernel, load and run it
	BLAS   error // cuBLASLt: one matrix product
	DNN    error // cuDNN: one convolution
}

// Run tries all on a device.
func Run(ordinal int) (r Result) {
	if r.Device = driver.Init(); r.Device != nil {
		return r
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := &tester{}
	defer func() { r.Device = errors.Join(r.Device, t.close()) }()
	if r.Device = t.open(ordinal); r.Device != nil {
		return r
	}
	r.NVRTC, r.BLAS, r.DNN = t.kernel(), t.product(), t.convolution()
	return r
}

// values is how many float32 each of the three buffers holds.
const values = 1024

// tester is a device with three buffers, their context current.
type tester struct {
	arch    string
	stream  cu.Stream
	buffers [3]cu.DevicePtr
	work    cu.DevicePtr
	closers []func() error
}

// workspace is what the libraries' algorithms may use.
const workspace = 32 << 20

func (t *tester) open(ordinal int) error {
	dev, err := driver.Describe(ordinal)
	if err != nil {
		return err
	}
	t.arch = dev.Arch()
	ctx, err := dev.Ordinal.RetainPrimaryCtx()
	if err != nil {
		return fmt.Errorf("context of %s: %w", dev.Name, err)
	}
	t.closers = append(t.closers, dev.Ordinal.ReleasePrimaryCtx)
	if err := cu.SetCurrentContext(ctx); err != nil {
		return err
	}
	if t.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return err
	}
	t.closers = append(t.closers, t.stream.Destroy)
	for i := range t.buffers {
		if t.buffers[i], err = t.alloc(4 * values); err != nil {
			return err
		}
	}
	t.work, err = t.alloc(workspace)
	return err
}

func (t *tester) alloc(bytes int64) (cu.DevicePtr, error) {
	p, err := cu.MemAlloc(bytes)
	if err == nil {
		t.closers = append(t.closers, func() error { return cu.MemFree(p) })
	}
	return p, err
}

func (t *tester) close() error {
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		errs = append(errs, t.closers[i]())
	}
	return errors.Join(errs...)
}

// ones fills a buffer with ones.
func (t *tester) ones(i int) error {
	var host [values]float32
	for j := range host {
		host[j] = 1
	}
	return cu.MemcpyHtoD(t.buffers[i], unsafe.Pointer(&host[0]), 4*values)
}

// expect waits for the stream and looks at an element of a buffer.
func (t *tester) expect(i, element int, want float32) error {
	if err := t.stream.Synchronize(); err != nil {
		return err
	}
	var host [values]float32
	if err := cu.MemcpyDtoH(unsafe.Pointer(&host[0]), t.buffers[i], 4*values); err != nil {
		return err
	}
	if host[element] != want {
		return fmt.Errorf("%w: %v, expected %v", ErrResult, host[element], want)
	}
	return nil
}

func (t *tester) kernel() error {
	image, err := Compile(t.arch)
	if err != nil {
		return err
	}
	m, err := cu.LoadData(string(image))
	if err != nil {
		return fmt.Errorf("load a kernel for %s: %w", t.arch, err)
	}
	defer func() { _ = m.Unload() }() // nothing of it is kept
	f, err := m.Function("twice")
	if err != nil {
		return err
	}
	if err := t.ones(0); err != nil {
		return err
	}
	x := uint64(t.buffers[0])
	if err := f.Launch(1, 1, 1, 32, 1, 1, 0, t.stream, []unsafe.Pointer{unsafe.Pointer(&x)}); err != nil {
		return err
	}
	return t.expect(0, 31, 2)
}

func (t *tester) product() (err error) {
	lib, err := cublaslt.Open()
	if err != nil {
		return err
	}
	h, err := lib.NewHandle()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Destroy()) }()
	const n = 16
	plan, err := h.Plan(cublaslt.Problem{
		M: n, N: n, K: n, Batch: 1, AlignA: 256, AlignB: 256, AlignC: 256, MaxWorkspace: workspace,
	})
	if err != nil {
		return err
	}
	defer plan.Destroy()
	if err := errors.Join(t.ones(0), t.ones(1), t.ones(2)); err != nil {
		return err
	}
	err = plan.Run(uintptr(unsafe.Pointer(t.stream.C())), 1, 1, uintptr(t.buffers[0]), uintptr(t.buffers[1]), uintptr(t.buffers[2]), uintptr(t.work))
	if err != nil {
		return err
	}
	return t.expect(2, n*n-1, n+1)
}

func (t *tester) convolution() (err error) {
	lib, err := cudnn.Open()
	if err != nil {
		return err
	}
	h, err := lib.NewHandle(uintptr(unsafe.Pointer(t.stream.C())))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Destroy()) }()
	const size, channels = 8, 8
	plan, err := h.Plan(cudnn.Problem{
		Direction: cudnn.Forward, N: 1, H: size, W: size, C: channels, K: channels, Kernel: 3, Stride: 1, Pad: 1,
		MaxWorkspace: workspace,
	})
	if err != nil {
		return err
	}
	defer plan.Destroy()
	if err := errors.Join(t.ones(0), t.ones(1), t.ones(2)); err != nil {
		return err
	}
	if err := plan.Run(uintptr(t.buffers[0]), uintptr(t.buffers[1]), uintptr(t.buffers[2]), uintptr(t.work)); err != nil {
		return err
	}
	return t.expect(2, (size+1)*channels, 9*channels) // row 1, column 1: no border
}
