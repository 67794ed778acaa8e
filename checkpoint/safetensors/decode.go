package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// chunkLen bytes are converted at a time; a multiple of every element size.
const chunkLen = 256 << 10

// A decoder converts the raw elements from index at on.
type decoder func(at int, raw []byte)

// stream reads the data of e from r in chunks of len(buf) bytes.
func stream(r io.Reader, e Entry, start int64, buf []byte, d decoder) error {
	size := int(e.DType.Size())
	left, at := e.Len(), 0
	for left > 0 {
		n := min(left, len(buf)/size)
		raw := buf[:n*size]
		if _, err := io.ReadFull(r, raw); err != nil {
			return &FormatError{Key: e.Name, Offset: start + e.Begin + int64(at*size), Reason: "reading the tensor", Err: err}
		}
		d(at, raw)
		at += n
		left -= n
	}
	return nil
}

func each[T any](dst []T, size int, load func(raw []byte) T) decoder {
	return func(at int, raw []byte) {
		for i := 0; i*size < len(raw); i++ {
			dst[at+i] = load(raw[i*size:])
		}
	}
}

func float32Decoder(d DType, dst []float32) decoder {
	le := binary.LittleEndian
	switch d {
	case F32: // the common case, without a call per element
		return func(at int, raw []byte) {
			out := dst[at : at+len(raw)/4]
			for i := range out {
				out[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
			}
		}
	case F64:
		return each(dst, 8, func(b []byte) float32 { return float32(math.Float64frombits(le.Uint64(b))) })
	case F16:
		return each(dst, 2, func(b []byte) float32 { return f16ToF32(le.Uint16(b)) })
	case BF16:
		return each(dst, 2, func(b []byte) float32 { return bf16ToF32(le.Uint16(b)) })
	case Bool, U8, I8, I16, I32, I64:
		load, size := intLoader(d)
		return each(dst, size, func(b []byte) float32 { return float32(load(b)) })
	}
	panic(fmt.Sprintf("safetensors: no decoder for %v", d))
}

func int64Decoder(d DType, dst []int64) (decoder, bool) {
	load, size := intLoader(d)
	if load == nil {
		return nil, false
	}
	return each(dst, size, load), true
}

// intLoader returns nil for a type that is not an integer.
func intLoader(d DType) (load func([]byte) int64, size int) {
	le := binary.LittleEndian
	switch d {
	case Bool:
		return func(b []byte) int64 {
			if b[0] != 0 {
				return 1
			}
			return 0
		}, 1
	case U8:
		return func(b []byte) int64 { return int64(b[0]) }, 1
	case I8:
		return func(b []byte) int64 { return int64(int8(b[0])) }, 1
	case I16:
		return func(b []byte) int64 { return int64(int16(le.Uint16(b))) }, 2
	case I32:
		return func(b []byte) int64 { return int64(int32(le.Uint32(b))) }, 4
	case I64:
		return func(b []byte) int64 { return int64(le.Uint64(b)) }, 8
	case F16, BF16, F32, F64:
	}
	return nil, 0
}

// Decoder reads a file front to back from a stream, so that its bytes can be
// hashed on the way. Not safe for concurrent use.
type Decoder struct {
	*header
	r     io.Reader
	start int64
	next  int
	buf   []byte
}

// NewDecoder reads and checks the header of a file of size bytes.
func NewDecoder(r io.Reader, size int64) (*Decoder, error) {
	h, start, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	var longest int64
	for _, e := range h.entries {
		longest = max(longest, e.End-e.Begin)
	}
	return &Decoder{header: h, r: r, start: start, buf: make([]byte, min(chunkLen, longest))}, nil
}

// Entries returns the tensors in the order of the data. The caller does not
// change it.
func (d *Decoder) Entries() []Entry { return d.entries }

// Float32 reads the next tensor in the order of Entries into dst, which has its
// length; it returns io.EOF after the last.
func (d *Decoder) Float32(dst []float32) error {
	if d.next == len(d.entries) {
		return io.EOF
	}
	e := d.entries[d.next]
	if len(dst) != e.Len() {
		return fmt.Errorf("safetensors: key %q: destination of %d elements for a tensor of %d", e.Name, len(dst), e.Len())
	}
	d.next++
	return stream(d.r, e, d.start, d.buf, float32Decoder(e.DType, dst))
}

// Skip reads the next tensor and drops it; it returns io.EOF after the last.
func (d *Decoder) Skip() error {
	if d.next == len(d.entries) {
		return io.EOF
	}
	e := d.entries[d.next]
	d.next++
	return stream(d.r, e, d.start, d.buf, func(int, []byte) {})
}
