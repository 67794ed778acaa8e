package cpu

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/agrdist/agrdist/internal/sharedmem"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu/internal/kernel"
)

const (
	alignment = 64 // bytes: a cache line and an AVX-512 register
	// slack is how many bytes after a buffer's end belong to its allocation, so
	// that a vector kernel may read (never use) past the last element.
	slack = 4 * kernel.Slack
)

type (
	element interface{ float32 | uint16 | int64 }

	// memory is what the three kinds of buffer share. bytes is what Free gives
	// back: zero in a view.
	memory[T element] struct {
		data  []T
		bytes int64
		block *sharedmem.Memory // of AllocShared
	}

	f32Buffer  struct{ memory[float32] }
	bf16Buffer struct{ memory[uint16] }
	i64Buffer  struct{ memory[int64] }
)

var (
	_ tensor.Sharer = (*Backend)(nil)
	_ tensor.Host   = (*f32Buffer)(nil)
	_ tensor.Buffer = (*bf16Buffer)(nil)
	_ tensor.Buffer = (*i64Buffer)(nil)
)

func (m *memory[T]) Len() int { return len(m.data) }

func (*f32Buffer) DType() tensor.DType  { return tensor.F32 }
func (*bf16Buffer) DType() tensor.DType { return tensor.BF16 }
func (*i64Buffer) DType() tensor.DType  { return tensor.I64 }

// Float32s is the buffer itself.
func (b *f32Buffer) Float32s() []float32 { return b.data }

// aligned returns n zeroed elements that begin on a cache line, with slack.
func aligned[T element](n int) []T {
	var zero T
	size := int(unsafe.Sizeof(zero))
	all := make([]T, n+(alignment+slack)/size)
	hugePages(unsafe.Pointer(unsafe.SliceData(all)), len(all)*size)
	off := -int(uintptr(unsafe.Pointer(&all[0]))%alignment) / size
	if off < 0 {
		off += alignment / size
	}
	return all[off : off+n : len(all)]
}

func (m *memory[T]) slice(off, n int) memory[T] {
	if off < 0 || n < 0 || off > len(m.data)-n {
		panic(fmt.Sprintf("cpu: slice [%d, %d+%d) of a buffer of %d", off, off, n, len(m.data)))
	}
	return memory[T]{data: m.data[off : off+n]}
}

// Alloc returns a zeroed buffer that begins on a cache line. It fails when the
// backend's buffers would not fit the machine's memory.
func (b *Backend) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("cpu: allocation of %d elements", n))
	}
	size := int64(dt.Size())
	if int64(n) > (math.MaxInt64-alignment-slack)/size {
		return nil, fmt.Errorf("%w: %d elements of %v", ErrMemory, n, dt)
	}
	bytes := int64(n)*size + alignment + slack
	if bytes > b.limit-b.used {
		return nil, fmt.Errorf("%w: %d bytes asked for, %d of %d in use", ErrMemory, bytes, b.used, b.limit)
	}
	b.used += bytes
	switch dt {
	case tensor.F32:
		return &f32Buffer{memory[float32]{data: aligned[float32](n), bytes: bytes}}, nil
	case tensor.BF16:
		return &bf16Buffer{memory[uint16]{data: aligned[uint16](n), bytes: bytes}}, nil
	case tensor.I64:
		return &i64Buffer{memory[int64]{data: aligned[int64](n), bytes: bytes}}, nil
	}
	panic("cpu: allocation of " + dt.String())
}

// AllocShared implements tensor.Sharer: a large F32 buffer is a block of package
// sharedmem where the system has them, and Free ends its life; all others are as
// Alloc's.
func (b *Backend) AllocShared(dt tensor.DType, n int) (tensor.Buffer, error) {
	if dt != tensor.F32 || n < sharedmem.Worth/4 || int64(n) > (b.limit-b.used-slack)/4 {
		return b.Alloc(dt, n)
	}
	bytes := 4*n + slack
	block, err := sharedmem.Alloc(bytes)
	if err != nil {
		return b.Alloc(dt, n)
	}
	b.used += int64(bytes)
	b.shared[block] = true
	return &f32Buffer{memory[float32]{data: block.Float32s()[:n], bytes: int64(bytes), block: block}}, nil
}

// Free gives back a buffer of Alloc. Freeing one twice, or a view, does
// nothing.
func (b *Backend) Free(buf tensor.Buffer) {
	switch m := buf.(type) {
	case *f32Buffer:
		free(b, &m.memory)
	case *bf16Buffer:
		free(b, &m.memory)
	case *i64Buffer:
		free(b, &m.memory)
	default:
		panic(foreign(buf))
	}
}

func free[T element](b *Backend, m *memory[T]) {
	if m.bytes > 0 {
		b.used -= m.bytes
		if m.block != nil {
			m.block.Free()
			delete(b.shared, m.block)
		}
		*m = memory[T]{}
	}
}

// Slice returns a view of elements [off, off+n).
func (b *Backend) Slice(buf tensor.Buffer, off, n int) tensor.Buffer {
	switch m := buf.(type) {
	case *f32Buffer:
		return &f32Buffer{m.slice(off, n)}
	case *bf16Buffer:
		return &bf16Buffer{m.slice(off, n)}
	case *i64Buffer:
		return &i64Buffer{m.slice(off, n)}
	}
	panic(foreign(buf))
}

// Upload copies host values in, rounding to nearest even for BF16.
func (b *Backend) Upload(dst tensor.Buffer, src []float32) {
	sameLen("Upload", dst.Len(), len(src))
	switch d := dst.(type) {
	case *f32Buffer:
		copy(d.data, src)
	case *bf16Buffer:
		for i, v := range src {
			d.data[i] = toBF16(v)
		}
	default:
		panic(fmt.Sprintf("cpu: Upload to %v", dst.DType()))
	}
}

// UploadInt64 copies host values to an I64 buffer.
func (b *Backend) UploadInt64(dst tensor.Buffer, src []int64) {
	sameLen("UploadInt64", dst.Len(), len(src))
	d, ok := dst.(*i64Buffer)
	if !ok {
		panic(fmt.Sprintf("cpu: UploadInt64 to %v", dst.DType()))
	}
	copy(d.data, src)
}

// Download copies to the host. It does not fail on this backend.
func (b *Backend) Download(dst []float32, src tensor.Buffer) error {
	sameLen("Download", len(dst), src.Len())
	switch s := src.(type) {
	case *f32Buffer:
		copy(dst, s.data)
	case *bf16Buffer:
		for i, v := range s.data {
			dst[i] = fromBF16(v)
		}
	default:
		panic(fmt.Sprintf("cpu: Download from %v", src.DType()))
	}
	return nil
}

// Sync returns nil: every operation has run when it returns.
func (b *Backend) Sync() error { return nil }

// toBF16 rounds to nearest even; a NaN stays one.
func toBF16(v float32) uint16 {
	u := math.Float32bits(v)
	if v != v {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
