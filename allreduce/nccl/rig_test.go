//go:build cuda

package nccl

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
	"github.com/agrdist/agrdist/tensor"
)

const kernels = `
extern "C" __global__ void add(float *y, const float *a, const float *b, long n) {
  long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = a[i] + b[i];
}
extern "C" __global__ void fill(float *y, float v, long n) {
  long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = v;
}
`

// rig is a device with just enough of a backend to sum gradients. Its lane is the
// same on the stream for collectives.
type rig struct {
	tensor.Backend // nil: everything else
	lane           *rig
	ordinal        int
	context        cu.CUContext
	stream         cu.Stream
	add, fill      cu.Function
	failed         error
}

var _ Lane = (*rig)(nil)

type rigBuffer struct {
	ptr cu.DevicePtr
	n   int
}

func (b rigBuffer) DType() tensor.DType { return tensor.F32 }
func (b rigBuffer) Len() int            { return b.n }

// newRig opens a device for the life of the process.
func newRig(ordinal int) (*rig, error) {
	if err := driver.Init(); err != nil {
		return nil, err
	}
	d, err := driver.Describe(ordinal)
	if err != nil {
		return nil, err
	}
	r := &rig{ordinal: ordinal}
	if r.context, err = d.Ordinal.RetainPrimaryCtx(); err != nil {
		return nil, err
	}
	image, log, err := nvrtc.Compile(kernels, "rig.cu", d.Arch())
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, log)
	}
	err = r.Current(func() error {
		m, err := cu.LoadData(string(image))
		if err != nil {
			return err
		}
		var errs [4]error
		r.add, errs[0] = m.Function("add")
		r.fill, errs[1] = m.Function("fill")
		r.stream, errs[2] = cu.MakeStream(cu.NonBlocking)
		lane := *r
		lane.stream, errs[3] = cu.MakeStream(cu.NonBlocking)
		lane.lane = r // what it follows
		r.lane = &lane
		return errors.Join(errs[:]...)
	})
	return r, err
}

func (r *rig) Current(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(r.context); err != nil {
		return err
	}
	return f()
}

// do keeps the first failure.
func (r *rig) do(f func() error) {
	if err := r.Current(f); err != nil && r.failed == nil {
		r.failed = err
	}
}

func (r *rig) ID() string                      { return fmt.Sprintf("gpu %d", r.ordinal) }
func (r *rig) Stream() uintptr                 { return uintptr(unsafe.Pointer(r.stream.C())) }
func (r *rig) Pointer(b tensor.Buffer) uintptr { return uintptr(b.(rigBuffer).ptr) }

func (r *rig) Mark() (follow func() error, err error) {
	err = r.Current(func() error {
		event, err := cu.MakeEvent(cu.DisableTiming)
		follow = func() error {
			return errors.Join(r.Current(func() error { return r.stream.Wait(event, 0) }), cu.DestroyEvent(&event))
		}
		return errors.Join(err, event.Record(r.lane.stream))
	})
	return follow, err
}

func (r *rig) Err() error { return r.failed }

func (r *rig) Done() (done bool, err error) {
	err = r.Current(func() error {
		err := r.stream.Query()
		if errors.Is(err, cu.NotReady) {
			return nil
		}
		done = err == nil
		return err
	})
	return done, err
}

func (r *rig) Alloc(_ tensor.DType, n int) (b tensor.Buffer, err error) {
	err = r.Current(func() error {
		ptr, err := cu.MemAlloc(int64(max(4*n, 1)))
		b = rigBuffer{ptr, n}
		return err
	})
	return b, err
}

func (r *rig) Free(b tensor.Buffer) { r.do(func() error { return cu.MemFree(b.(rigBuffer).ptr) }) }

func (r *rig) Slice(b tensor.Buffer, off, n int) tensor.Buffer {
	v := b.(rigBuffer)
	if off < 0 || n < 0 || off+n > v.n {
		panic(fmt.Sprintf("slice [%d, %d) of %d", off, off+n, v.n))
	}
	return rigBuffer{v.ptr + cu.DevicePtr(4*off), n}
}

func (r *rig) launch(f cu.Function, n int, args ...uint64) {
	params := make([]unsafe.Pointer, len(args))
	for i := range args {
		params[i] = unsafe.Pointer(&args[i])
	}
	r.do(func() error { return f.Launch((n+63)/64, 1, 1, 64, 1, 1, 0, r.stream, params) })
}

func at(t tensor.Tensor) uint64 { return uint64(t.Buf.(rigBuffer).ptr) }

func (r *rig) Add(dst, a, b tensor.Tensor) {
	r.launch(r.add, dst.Buf.Len(), at(dst), at(a), at(b), uint64(dst.Buf.Len()))
}

func (r *rig) Fill(dst tensor.Tensor, _ float32) {
	r.launch(r.fill, dst.Buf.Len(), at(dst), 0, uint64(dst.Buf.Len()))
}

func (r *rig) Copy(dst, a tensor.Tensor) {
	r.do(func() error {
		return cu.MemcpyDtoDAsync(cu.DevicePtr(at(dst)), cu.DevicePtr(at(a)), int64(4*dst.Buf.Len()), r.stream)
	})
}

func (r *rig) Upload(dst tensor.Buffer, src []float32) {
	r.do(func() error {
		if err := r.stream.Synchronize(); err != nil {
			return err
		}
		return cu.MemcpyHtoD(dst.(rigBuffer).ptr, unsafe.Pointer(unsafe.SliceData(src)), int64(4*len(src)))
	})
}

func (r *rig) Download(dst []float32, src tensor.Buffer) error {
	r.do(func() error {
		if err := r.stream.Synchronize(); err != nil {
			return err
		}
		return cu.MemcpyDtoH(unsafe.Pointer(unsafe.SliceData(dst)), src.(rigBuffer).ptr, int64(4*len(dst)))
	})
	return errors.Join(r.failed, r.lane.failed)
}
