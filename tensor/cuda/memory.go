//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// buffer is a run of elements on the device. bytes is what Free gives back:
// zero in a view.
type buffer struct {
	ptr   cu.DevicePtr
	dtype tensor.DType
	n     int
	bytes int64
	be    *Backend
}

var (
	_ tensor.Buffer = (*buffer)(nil)
	_ tensor.Mixed  = (*Backend)(nil)

	_ tensor.Fetcher  = (*Backend)(nil)
	_ tensor.Sampling = (*Backend)(nil)
)

func (m *buffer) DType() tensor.DType { return m.dtype }
func (m *buffer) Len() int            { return m.n }

// Pointer is the device address of a buffer of this package, for libraries that
// work on the same context. The buffer must stay referenced.
func Pointer(b tensor.Buffer) (ptr uintptr, ok bool) {
	m, ok := b.(*buffer)
	if !ok {
		return 0, false
	}
	return uintptr(m.ptr), true
}

// Alloc returns a zeroed buffer, aligned to 256 bytes or more. The error wraps
// ErrMemory and names the bytes asked for and those free.
func (b *Backend) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	return b.allocBy(&b.queue, dt, n)
}

// allocBy is Alloc for first use on a queue's stream.
func (b *Backend) allocBy(q *queue, dt tensor.DType, n int) (tensor.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("cuda: allocation of %d elements", n))
	}
	size := int64(dt.Size())
	if int64(n) > math.MaxInt64/size {
		return nil, fmt.Errorf("%w: %d elements of %v asked for", ErrMemory, n, dt)
	}
	m := &buffer{dtype: dt, n: n, bytes: int64(n) * size, be: b}
	if n == 0 {
		return m, nil
	}
	q.enter()
	defer q.leave()
	var err error
	if m.ptr, err = b.allocate(m.bytes); err != nil {
		return nil, err
	}
	if err := cu.MemsetD8Async(m.ptr, 0, m.bytes, q.stream); err != nil {
		q.check("clear a new buffer", err)
	}
	return m, nil
}

// allocate is device memory of undefined content; the context is current.
func (b *Backend) allocate(bytes int64) (cu.DevicePtr, error) {
	ptr, err := cu.MemAlloc(bytes)
	if err == nil {
		return ptr, nil
	}
	free, total, infoErr := cu.MemInfo()
	if infoErr != nil {
		return 0, fmt.Errorf("%w: %s: %d bytes asked for: %w", ErrMemory, b.name, bytes, err)
	}
	return 0, fmt.Errorf("%w: %s: %d bytes asked for, %d of %d free: %w", ErrMemory, b.name, bytes, free, total, err)
}

// MemInfo returns the device's free and total memory in bytes, other processes
// considered.
func (b *Backend) MemInfo() (free, total int64, err error) {
	b.enter()
	defer b.leave()
	if free, total, err = cu.MemInfo(); err != nil {
		return 0, 0, fmt.Errorf("cuda: %s: memory: %w", b.name, err)
	}
	return free, total, nil
}

// Free gives back a buffer of Alloc, once the operations called before are
// done with it. Freeing one twice, or a view, does nothing.
func (b *Backend) Free(buf tensor.Buffer) {
	m := b.own("Free", buf)
	if m.bytes == 0 || b.closed {
		return
	}
	b.enter()
	defer b.leave()
	b.check("synchronize", b.synchronize())
	b.check("free memory", cu.MemFree(m.ptr))
	*m = buffer{dtype: m.dtype, be: b}
}

// Slice returns a view of elements [off, off+n).
func (b *Backend) Slice(buf tensor.Buffer, off, n int) tensor.Buffer {
	m := b.own("Slice", buf)
	if off < 0 || n < 0 || off > m.n-n {
		panic(fmt.Sprintf("cuda: slice [%d, %d+%d) of a buffer of %d", off, off, n, m.n))
	}
	return &buffer{ptr: m.ptr + cu.DevicePtr(off*m.dtype.Size()), dtype: m.dtype, n: n, be: b}
}

// Activations is BF16 where the multiplications are.
func (b *Backend) Activations() tensor.DType {
	if b.config.BF16 {
		return tensor.BF16
	}
	return tensor.F32
}

// SliceAs returns a view of n elements of a type in an F32 buffer, from its element
// off on.
func (b *Backend) SliceAs(buf tensor.Buffer, dt tensor.DType, off, n int) tensor.Buffer {
	m := b.own("SliceAs", buf)
	if m.dtype != tensor.F32 || off < 0 || n < 0 || off > m.n || n > (m.n-off)*4/dt.Size() {
		panic(fmt.Sprintf("cuda: slice of %d %v from %d of a buffer of %d %v", n, dt, off, m.n, m.dtype))
	}
	return &buffer{ptr: m.ptr + cu.DevicePtr(4*off), dtype: dt, n: n, be: b}
}

// toBF16 rounds to nearest even; a NaN stays one.
func toBF16(v float32) uint16 {
	u := math.Float32bits(v)
	if v != v {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
