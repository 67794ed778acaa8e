//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/tensor"
)

// libraries is what convolutions and matrix products are made of: cuDNN and
// cuBLASLt on this backend's context, and the algorithm of every problem that was
// met. An algorithm is chosen once, by the library's rules of thumb: timing
// would make the bits depend on the machine's load.
type libraries struct {
	dnn   *cudnn.Handle
	blas  *cublaslt.Handle
	convs map[cudnn.Problem]*cudnn.Plan
	skip  map[cudnn.Problem]int // algorithms that were refused
	gemms map[cublaslt.Problem]*cublaslt.Plan
	call  convolution // the one under way, kept so that a call allocates nothing
	// maxPatches is that constant, but in tests.
	maxPatches int
}

// openLibraries opens both libraries; the context is current.
func (b *Backend) openLibraries() error {
	l := &b.libraries
	l.maxPatches = maxPatches
	l.convs, l.skip, l.gemms = map[cudnn.Problem]*cudnn.Plan{}, map[cudnn.Problem]int{}, map[cublaslt.Problem]*cublaslt.Plan{}
	blas, err := cublaslt.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if l.blas, err = blas.NewHandle(); err != nil {
		return fmt.Errorf("cuda: %s: %w", b.name, err)
	}
	b.closers = append(b.closers, l.closeBLAS)
	dnn, err := cudnn.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if l.dnn, err = dnn.NewHandle(b.streamHandle()); err != nil {
		return fmt.Errorf("cuda: %s: %w", b.name, err)
	}
	b.closers = append(b.closers, l.closeDNN)
	return nil
}

func (l *libraries) closeDNN() error {
	for _, p := range l.convs {
		if p != nil {
			p.Destroy()
		}
	}
	return l.dnn.Destroy()
}

func (l *libraries) closeBLAS() error {
	for _, p := range l.gemms {
		p.Destroy()
	}
	return l.blas.Destroy()
}

// streamHandle is the stream of operations as the libraries take it.
func (b *Backend) streamHandle() uintptr { return uintptr(unsafe.Pointer(b.stream.C())) }

// precision is how two operands are multiplied: in BF16 where one is stored so or
// the configuration says so.
func (b *Backend) precision(x, y *buffer) cublaslt.Compute {
	switch {
	case b.config.BF16 || x.dtype == tensor.BF16 || y.dtype == tensor.BF16:
		return cublaslt.BF16
	case b.config.TF32:
		return cublaslt.TF32
	}
	return cublaslt.F32
}

// operandType is how operands are stored for a precision.
func operandType(c cublaslt.Compute) tensor.DType {
	if c == cublaslt.BF16 {
		return tensor.BF16
	}
	return tensor.F32
}

// narrow says that a product's result is written as BF16: it is to be stored so, and
// the operands are.
func narrow(c cublaslt.Compute, to *buffer) bool {
	return c == cublaslt.BF16 && to.dtype == tensor.BF16
}

// productType is how the result of a product is stored.
func productType(p cublaslt.Problem) tensor.DType {
	if p.Narrow {
		return tensor.BF16
	}
	return tensor.F32
}

// part is an operand as a library sees it: the caller's memory, or scratch.
type part struct {
	ptr    cu.DevicePtr
	dtype  tensor.DType
	n      int   // elements
	off    int64 // in the scratch memory
	direct bool  // it is the caller's
}

const (
	scratchAlign = 256
	// operandAlign is what the libraries' fast kernels want of every operand. It
	// is what cuBLASLt is told, however much better an address is: bits must not
	// depend on where memory lies.
	operandAlign = 16
)

// room is the scratch memory of one operation while its parts are laid out.
type room struct{ size int64 }

// bytes is a part without a type.
func (r *room) bytes(n uint64) part {
	p := part{off: r.size}
	r.size += (int64(n) + scratchAlign - 1) / scratchAlign * scratchAlign
	return p
}

// operand is n elements of a type: the buffer itself where it fits, is of that
// type and aligned.
func (r *room) operand(b *buffer, dt tensor.DType, n int, fits bool) part {
	if fits && b.dtype == dt && b.ptr%operandAlign == 0 {
		return part{ptr: b.ptr, dtype: dt, n: n, direct: true}
	}
	p := r.bytes(uint64(n) * uint64(dt.Size()))
	p.dtype, p.n = dt, n
	return p
}

// place gives the part its address in the scratch memory.
func (p *part) place(scratch cu.DevicePtr) {
	if !p.direct {
		p.ptr = scratch + cu.DevicePtr(p.off)
	}
}

// cast copies n elements from one type to another.
func (b *Backend) cast(dst cu.DevicePtr, to tensor.DType, src cu.DevicePtr, from tensor.DType, n int) {
	switch to {
	case from:
		b.check("copy", b.copyWithin(dst, src, int64(n*to.Size())))
	case tensor.F32:
		b.launch(&b.kernels.widen, spans(n, tensor.BF16), elementThreads, at(dst), at(src), intArg(n))
	default:
		b.launch(&b.kernels.narrow, spans(n, tensor.BF16), elementThreads, at(dst), at(src), intArg(n))
	}
}

// load fills a part from the buffer that it stands for.
func (b *Backend) load(p *part, from *buffer) {
	if !p.direct {
		b.cast(p.ptr, p.dtype, from.ptr, from.dtype, p.n)
	}
}

// store fills the buffer from the part that stands for it.
func (b *Backend) store(to *buffer, p *part) {
	if !p.direct {
		b.cast(to.ptr, to.dtype, p.ptr, p.dtype, p.n)
	}
}

// maxProductWorkspace is the most that cuBLASLt may use: what NVIDIA recommends
// for its largest devices.
const maxProductWorkspace = 32 << 20

// productPlan returns the algorithm of a product. Without one the failure sticks.
func (b *Backend) productPlan(p cublaslt.Problem) (*cublaslt.Plan, bool) {
	p.AlignA, p.AlignB, p.AlignC = operandAlign, operandAlign, operandAlign
	p.MaxWorkspace = maxProductWorkspace
	plan := b.libraries.gemms[p]
	if plan == nil {
		var err error
		if plan, err = b.libraries.blas.Plan(p); err != nil {
			b.check("matrix product", err)
			return nil, false
		}
		b.libraries.gemms[p] = plan
	}
	return plan, true
}

// convPlan returns the algorithm of a convolution, nil where cuDNN has none. Where
// ok is false the failure sticks.
func (b *Backend) convPlan(p cudnn.Problem) (plan *cudnn.Plan, ok bool) {
	plan, known := b.libraries.convs[p]
	if known {
		return plan, true
	}
	asked := p
	asked.Skip = b.libraries.skip[p]
	plan, err := b.libraries.dnn.Plan(asked)
	if err != nil && !errors.Is(err, cudnn.ErrNoAlgorithm) {
		b.check("convolution", err)
		return nil, false
	}
	if plan == nil {
		b.warn("cuDNN has no algorithm for a convolution; it becomes a matrix product of patches, which is slower", "reason", err)
	}
	b.libraries.convs[p] = plan
	return plan, true
}

// refused drops the algorithm of a convolution, which the library offered and does not run.
// It happens at the first call of a problem, so never in a recording.
func (b *Backend) refused(p cudnn.Problem, why error) {
	b.warn("cuDNN refuses an algorithm that it offered; the next one is taken", "reason", why)
	b.libraries.convs[p].Destroy()
	delete(b.libraries.convs, p)
	b.libraries.skip[p]++
}

func (b *Backend) warn(text string, attrs ...any) {
	if b.config.Logger != nil {
		b.config.Logger.Warn(text, attrs...)
	}
}

// product runs a plan.
func (b *Backend) product(plan *cublaslt.Plan, alpha, beta float32, x, y, z, scratch *part) {
	switch {
	case b.counts == nil: // the name costs an allocation
	case beta != 0:
		b.countCall("cuBLASLt", "product in "+plan.Precision(), x, y, z, z)
	default:
		b.countCall("cuBLASLt", "product in "+plan.Precision(), x, y, z)
	}
	b.check("matrix product", plan.Run(b.streamHandle(), alpha, beta,
		uintptr(x.ptr), uintptr(y.ptr), uintptr(z.ptr), uintptr(scratch.ptr)))
}
