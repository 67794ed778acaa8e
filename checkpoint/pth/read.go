package pth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Tensor is a tensor as float32, row-major.
type Tensor struct {
	Shape []int
	Data  []float32
}

// File is an opened file. It is used by one goroutine.
type File struct {
	size   int64
	root   *dict
	open   func(storage) (io.ReadCloser, error) // the bytes of a storage
	closer io.Closer
}

// ReadFile reads the tensors of a state dictionary by name; those of integers
// (num_batches_tracked) are left out. Errors wrap ErrFormat or ErrForbidden.
func ReadFile(name string) (t map[string]Tensor, err error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Tensors("")
}

// Open opens a file of torch.save. Errors wrap ErrFormat or ErrForbidden.
func Open(name string) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		var f *File
		if f, err = New(file, info.Size()); err == nil {
			f.closer = file
			return f, nil
		}
	}
	return nil, errors.Join(err, file.Close())
}

// Close closes the file that Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// New is Open for a file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	var head [2]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	form := readOld
	if string(head[:]) == "PK" {
		form = readZip
	}
	root, open, err := form(r, size)
	if err != nil {
		return nil, err
	}
	d, ok := root.(*dict)
	if !ok {
		return nil, fmt.Errorf("%w: it holds %s, not a dictionary of tensors", ErrFormat, kindOf(root))
	}
	return &File{size: size, root: d, open: open}, nil
}

// Groups names the state dictionaries in the file, sorted: the entries whose values are
// dictionaries of tensors. A file that is one itself has none.
func (f *File) Groups() []string {
	var names []string
	seen := map[*dict]bool{}
	for _, p := range f.root.pairs {
		name, okName := p.key.(string)
		d, okDict := p.value.(*dict)
		if !okName || !okDict || len(d.pairs) == 0 || seen[d] {
			continue
		}
		seen[d] = true
		if walk(d, func(string, view) error { return nil }) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Shape is the shape of the tensor that the file's dictionary has under a name, if any.
func (f *File) Shape(name string) (shape []int, ok bool) {
	for _, p := range f.root.pairs {
		if v, is := p.value.(view); is && p.key == any(name) {
			return v.shape, true
		}
	}
	return nil, false
}

// Tensors reads the state dictionary of a group, or the file's own where group is empty.
// Halves, bfloat16 and doubles become float32; tensors of integers are left out.
func (f *File) Tensors(group string) (map[string]Tensor, error) {
	d := f.root
	if group != "" {
		d = nil
		for _, p := range f.root.pairs {
			if found, ok := p.value.(*dict); ok && p.key == any(group) {
				d = found
			}
		}
		if d == nil {
			return nil, fmt.Errorf("%w: there is no dictionary %.60q in it", ErrFormat, group)
		}
	}
	return f.tensors(d)
}

// maxInflation bounds the storages of a file by its size: entries of an archive can be
// compressed, and they can overlap.
const maxInflation = 16

// tensors cuts the tensors of a dictionary out of their storages.
func (f *File) tensors(d *dict) (map[string]Tensor, error) {
	out := map[string]Tensor{}
	opened := map[string][]float32{}
	var held, copied int64 // bytes of storages, values that were gathered
	err := walk(d, func(name string, v view) error {
		if decoders[v.storage.kind] == nil {
			return nil
		}
		if _, twice := out[name]; twice {
			return fmt.Errorf("%w: %.60q twice", ErrFormat, name)
		}
		values, ok := opened[v.storage.key]
		if !ok {
			var err error
			if held += v.storage.count * elementSize[v.storage.kind]; held > maxInflation*f.size {
				return fmt.Errorf("%w: its storages are larger than the file can hold", ErrFormat)
			}
			if values, err = f.values(v.storage); err != nil {
				return err
			}
			opened[v.storage.key] = values
		}
		n, contiguous, err := v.extent(int64(len(values)))
		if err != nil {
			return fmt.Errorf("%w: %.60q %w", ErrFormat, name, err)
		}
		if contiguous {
			out[name] = Tensor{Shape: v.shape, Data: values[v.offset : v.offset+n]}
			return nil
		}
		if copied += n; copied > f.size {
			return fmt.Errorf("%w: its tensors have more values than it has bytes", ErrFormat)
		}
		out[name] = Tensor{Shape: v.shape, Data: v.gather(values, n)}
		return nil
	})
	return out, err
}

// extent checks that a view lies within a storage of count values and returns its number
// of values.
func (v view) extent(count int64) (n int64, contiguous bool, err error) {
	if v.offset > count {
		return 0, false, outside(false)
	}
	n, contiguous = 1, true
	last := v.offset
	for i, d := range slices.Backward(v.shape) {
		if d != 1 && v.strides[i] != n {
			contiguous = false
		}
		if n *= int64(d); n > count {
			return 0, false, fmt.Errorf("has shape %v in a storage of %d values", v.shape, count)
		}
		if d == 0 {
			return 0, true, nil
		}
		if v.strides[i] < 0 || d > 1 && v.strides[i] > count {
			return 0, false, outside(false)
		}
		last += int64(d-1) * v.strides[i] // d <= count < 2^31
	}
	return n, contiguous, outside(last < count)
}

func outside(inside bool) error {
	if inside {
		return nil
	}
	return errors.New("reaches beyond its storage")
}

// gather copies the n values of a view row-major.
func (v view) gather(values []float32, n int64) []float32 {
	out := make([]float32, n)
	at := make([]int, len(v.shape))
	from := v.offset
	for i := range out {
		out[i] = values[from]
		for axis, d := range slices.Backward(v.shape) {
			at[axis]++
			from += v.strides[axis]
			if at[axis] < d {
				break
			}
			from -= int64(d) * v.strides[axis]
			at[axis] = 0
		}
	}
	return out
}

// values reads a storage.
func (f *File) values(s storage) (values []float32, err error) {
	in, err := f.open(s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	size, decode := int(elementSize[s.kind]), decoders[s.kind]
	out := make([]float32, 0, min(s.count, 1<<20))
	buf := make([]byte, 1<<16)
	for left := s.count * int64(size); left > 0; {
		part := buf[:min(int64(len(buf)), left)]
		if _, err := io.ReadFull(in, part); err != nil {
			return nil, fmt.Errorf("%w: storage %.20q is cut off", ErrFormat, s.key)
		}
		left -= int64(len(part))
		for i := 0; i < len(part); i += size {
			out = append(out, decode(part[i:]))
		}
	}
	// A ZIP entry checks its checksum at the end.
	if _, err := in.Read(buf[:1]); err != io.EOF {
		return nil, fmt.Errorf("%w: storage %.20q is damaged", ErrFormat, s.key)
	}
	return out, nil
}

// decoders are the element types that become float32.
var decoders = map[string]func([]byte) float32{
	"FloatStorage":  func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) },
	"DoubleStorage": func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) },
	"HalfStorage":   func(b []byte) float32 { return half(binary.LittleEndian.Uint16(b)) },
	"BFloat16Storage": func(b []byte) float32 {
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	},
}

// half widens an IEEE 754 binary16.
func half(h uint16) float32 {
	sign, exponent, fraction := float64(1), int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch {
	case exponent == 31 && fraction != 0:
		return float32(math.NaN())
	case exponent == 31:
		return float32(math.Inf(int(sign)))
	case exponent == 0:
		return float32(sign * math.Ldexp(fraction, -24))
	}
	return float32(sign * math.Ldexp(1024+fraction, exponent-25))
}

// walk calls f for every tensor of a dictionary.
func walk(d *dict, f func(name string, v view) error) error {
	for _, p := range d.pairs {
		name, okName := p.key.(string)
		v, okView := p.value.(view)
		if !okName || !okView {
			return fmt.Errorf("%w: entry %.40q is %s, not a tensor", ErrFormat, name, kindOf(p.value))
		}
		if err := f(name, v); err != nil {
			return err
		}
	}
	return nil
}
