package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Tensor is one tensor to write.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  Data
}

// Data holds elements to be written: Float32s, Int64s or Raw.
type Data interface {
	// elements returns how many elements of d there are, -1 if the data
	// cannot be written as d.
	elements(d DType) int
	// encode writes elements [lo, hi) to dst as d.
	encode(dst []byte, d DType, lo, hi int) error
}

// Float32s is written as F32, or rounded to F16 or BF16, or widened to F64.
type Float32s []float32

// Int64s is written as any integer type; a value out of its range is an error.
type Int64s []int64

// Raw is written as it is, little endian elements of the tensor's dtype.
type Raw []byte

var (
	_ Data = Float32s(nil)
	_ Data = Int64s(nil)
	_ Data = Raw(nil)
)

// Write writes the tensors and the metadata (nil for none) to w, in the order
// of the reference implementation: dtype descending, then name; the header is
// padded so that the data starts at a multiple of 8. The caller's slices are
// read once and not kept.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	return WriteHooked(w, tensors, metadata, nil)
}

// WriteHooked is Write that also passes the data of every tensor, without the
// header, to data (if it is not nil): for a digest that is taken on the way.
func WriteHooked(w io.Writer, tensors []Tensor, metadata map[string]string, data io.Writer) error {
	list, err := arrange(tensors)
	if err != nil {
		return err
	}
	head, err := encodeHeader(list, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("safetensors: write header: %w", err)
	}
	if data != nil {
		w = io.MultiWriter(w, data)
	}
	var longest int64
	for _, t := range list {
		size, _ := byteSize(t.Shape, t.DType)
		longest = max(longest, size)
	}
	buf := make([]byte, min(chunkLen, longest))
	for _, t := range list {
		if err := writeData(w, t, buf); err != nil {
			return fmt.Errorf("safetensors: key %q: %w", shorten(t.Name), err)
		}
	}
	return nil
}

func writeData(w io.Writer, t Tensor, buf []byte) error {
	size := int(t.DType.Size())
	n := t.Data.elements(t.DType)
	for lo := 0; lo < n; {
		hi := min(n, lo+len(buf)/size)
		raw := buf[:(hi-lo)*size]
		if err := t.Data.encode(raw, t.DType, lo, hi); err != nil {
			return err
		}
		if _, err := w.Write(raw); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		lo = hi
	}
	return nil
}

// Size returns the bytes that Write would write.
func Size(tensors []Tensor, metadata map[string]string) (int64, error) {
	list, err := arrange(tensors)
	if err != nil {
		return 0, err
	}
	head, err := encodeHeader(list, metadata)
	n := int64(len(head))
	for _, t := range list {
		size, _ := byteSize(t.Shape, t.DType)
		n += size
	}
	return n, err
}

// arrange checks the tensors and returns them in file order.
func arrange(tensors []Tensor) ([]Tensor, error) {
	list := slices.Clone(tensors)
	slices.SortFunc(list, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.DType, a.DType), cmp.Compare(a.Name, b.Name))
	})
	seen := make(map[string]bool, len(list))
	for _, t := range list {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("safetensors: key %q: %w", shorten(t.Name), err)
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("safetensors: key %q occurs twice", shorten(t.Name))
		}
		seen[t.Name] = true
	}
	return list, nil
}

func (t Tensor) check() error {
	if t.Name == metadataKey {
		return errors.New("the name is reserved")
	}
	if !utf8.ValidString(t.Name) {
		return errors.New("the name is not UTF-8")
	}
	if !t.DType.valid() {
		return fmt.Errorf("%v is no dtype", t.DType)
	}
	if t.Data == nil {
		return errors.New("no data")
	}
	size, ok := byteSize(t.Shape, t.DType)
	if !ok {
		return fmt.Errorf("shape %v of %v overflows", t.Shape, t.DType)
	}
	n := t.Data.elements(t.DType)
	if n < 0 {
		return fmt.Errorf("%T cannot be written as %v", t.Data, t.DType)
	}
	if want := size / t.DType.Size(); int64(n) != want {
		return fmt.Errorf("%d elements for shape %v", n, t.Shape)
	}
	return nil
}

// encodeHeader returns the length prefix and the padded JSON text.
func encodeHeader(list []Tensor, metadata map[string]string) ([]byte, error) {
	b := append(make([]byte, prefixLen), '{')
	var err error
	str := func(s string) {
		var text []byte
		if text, err = appendString(b, s, err); err == nil {
			b = text
		}
	}
	if len(metadata) > 0 {
		str(metadataKey)
		b = append(b, ":{"...)
		for i, k := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				b = append(b, ',')
			}
			str(k)
			b = append(b, ':')
			str(metadata[k])
		}
		b = append(b, '}')
	}
	var at int64
	for i, t := range list {
		if i > 0 || len(metadata) > 0 {
			b = append(b, ',')
		}
		size, _ := byteSize(t.Shape, t.DType)
		if size > math.MaxInt64-at {
			return nil, fmt.Errorf("safetensors: key %q: the file would exceed 2^63 bytes", shorten(t.Name))
		}
		str(t.Name)
		b = fmt.Appendf(b, `:{"dtype":"%v","shape":[`, t.DType)
		for j, d := range t.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(d), 10)
		}
		b = fmt.Appendf(b, `],"data_offsets":[%d,%d]}`, at, at+size)
		at += size
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	n := len(b) - prefixLen
	if err == nil && n > MaxHeader {
		err = fmt.Errorf("safetensors: the header would take %d bytes, at most %d are allowed", n, MaxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b, err
}

// appendString appends s as a JSON string, unless an error came before.
func appendString(b []byte, s string, err error) ([]byte, error) {
	if err != nil {
		return b, err
	}
	if !utf8.ValidString(s) {
		return b, fmt.Errorf("safetensors: metadata %q is not UTF-8", shorten(s))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return b, fmt.Errorf("safetensors: encode %q: %w", shorten(s), err)
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...), nil
}

func (v Float32s) elements(d DType) int {
	switch d {
	case F16, BF16, F32, F64:
		return len(v)
	case Bool, U8, I8, I16, I32, I64:
	}
	return -1
}

func (v Float32s) encode(dst []byte, d DType, lo, hi int) error {
	le := binary.LittleEndian
	src := v[lo:hi]
	switch d {
	case F32:
		for i, x := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	case F16:
		for i, x := range src {
			le.PutUint16(dst[2*i:], f32ToF16(x))
		}
	case BF16:
		for i, x := range src {
			le.PutUint16(dst[2*i:], f32ToBF16(x))
		}
	case F64:
		for i, x := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
		}
	case Bool, U8, I8, I16, I32, I64:
		return fmt.Errorf("floats cannot be written as %v", d)
	}
	return nil
}

func (v Int64s) elements(d DType) int {
	if load, _ := intLoader(d); load != nil {
		return len(v)
	}
	return -1
}

func (v Int64s) encode(dst []byte, d DType, lo, hi int) error {
	load, size := intLoader(d)
	if load == nil {
		return fmt.Errorf("integers cannot be written as %v", d)
	}
	var raw [8]byte
	for i, x := range v[lo:hi] {
		binary.LittleEndian.PutUint64(raw[:], uint64(x))
		if load(raw[:]) != x {
			return fmt.Errorf("element %d: %d is out of the range of %v", lo+i, x, d)
		}
		copy(dst[i*size:(i+1)*size], raw[:])
	}
	return nil
}

func (v Raw) elements(d DType) int {
	if int64(len(v))%d.Size() != 0 {
		return -1
	}
	return len(v) / int(d.Size())
}

func (v Raw) encode(dst []byte, d DType, lo, hi int) error {
	size := int(d.Size())
	copy(dst, v[lo*size:hi*size])
	return nil
}
