package pth

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
)

// Tensor is a float32 tensor, row-major.
type Tensor struct {
	Shape []int
	Data  []float32
}

// ReadFile reads the float32 tensors of a state dictionary by name; integer ones
// (num_batches_tracked) are left out. Errors wrap ErrFormat or ErrForbidden.
func ReadFile(name string) (map[string]Tensor, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return Read(f, info.Size())
}

// Read is ReadFile for a file of size bytes.
func Read(r io.ReaderAt, size int64) (map[string]Tensor, error) {
	var head [2]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	if string(head[:]) == "PK" {
		return readZip(r, size)
	}
	return readOld(r, size)
}

// readZip reads the form since PyTorch 1.6: NAME/data.pkl and NAME/data/KEY.
func readZip(r io.ReaderAt, size int64) (map[string]Tensor, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var program *zip.File
	data := map[string]*zip.File{}
	for _, f := range z.File {
		if path.Base(f.Name) == "data.pkl" {
			program = f
		} else if strings.HasSuffix(path.Dir(f.Name), "/data") {
			data[path.Base(f.Name)] = f
		}
	}
	if program == nil {
		return nil, fmt.Errorf("%w: the archive has no data.pkl", ErrFormat)
	}
	in, err := program.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	root, err := load(bufio.NewReader(in))
	if err != nil {
		return nil, err
	}
	return tensors(root, func(s storage) ([]float32, error) {
		f := data[s.key]
		if f == nil || f.UncompressedSize64 != uint64(s.count)*4 || f.Method != zip.Store && f.UncompressedSize64 > 1100*f.CompressedSize64 {
			return nil, fmt.Errorf("%w: storage %.20q of %d values is not in the archive", ErrFormat, s.key, s.count)
		}
		in, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return floats(in, s.count)
	})
}

// magic is the first number of the older form, 0x1950a86a20f9469cfc6c, as its bytes.
const magic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

// readOld reads the older form: pickles of a magic number, a version, facts about the
// machine, the dictionary, the storages' keys; then each storage, its length first.
func readOld(r io.ReaderAt, size int64) (map[string]Tensor, error) {
	section := io.NewSectionReader(r, 0, size)
	in := bufio.NewReader(section)
	if m, err := load(in); err != nil || m != any(magic) {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	if v, err := load(in); err != nil || v != any(int64(1001)) {
		return nil, fmt.Errorf("%w: its version is not 1001", ErrFormat)
	}
	if _, err := load(in); err != nil {
		return nil, err
	}
	root, err := load(in)
	if err != nil {
		return nil, err
	}
	kinds := map[string]storage{}
	if err := walk(root, func(_ string, v view) error {
		kinds[v.storage.key] = v.storage
		return nil
	}); err != nil {
		return nil, err
	}
	v, err := load(in)
	if err != nil {
		return nil, err
	}
	keys, ok := v.(*list)
	if !ok {
		return nil, fmt.Errorf("%w: no list of storages", ErrFormat)
	}
	loaded := map[string][]float32{}
	for _, k := range keys.items {
		key, _ := k.(string)
		s, ok := kinds[key]
		var count int64
		if err := binary.Read(in, binary.LittleEndian, &count); err != nil || !ok || count != s.count {
			return nil, fmt.Errorf("%w: storage %.20q has another length than its tensors", ErrFormat, key)
		}
		at, _ := section.Seek(0, io.SeekCurrent)
		if left := size - at + int64(in.Buffered()); count*elementSize[s.kind] > left {
			return nil, fmt.Errorf("%w: it ends in storage %.20q", ErrFormat, key)
		}
		if s.kind != "FloatStorage" {
			if _, err := io.CopyN(io.Discard, in, count*elementSize[s.kind]); err != nil {
				return nil, fmt.Errorf("%w: it ends in storage %.20q", ErrFormat, key)
			}
			continue
		}
		if loaded[key], err = floats(in, count); err != nil {
			return nil, err
		}
	}
	return tensors(root, func(s storage) ([]float32, error) {
		values, ok := loaded[s.key]
		if !ok {
			return nil, fmt.Errorf("%w: storage %.20q is not in the file", ErrFormat, s.key)
		}
		return values, nil
	})
}

// floats reads count little-endian values.
func floats(r io.Reader, count int64) ([]float32, error) {
	out := make([]float32, 0, min(count, 1<<22))
	buf := make([]byte, 1<<16)
	for int64(len(out)) < count {
		part := buf[:min(int64(len(buf)), 4*(count-int64(len(out))))]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, fmt.Errorf("%w: a storage is cut off", ErrFormat)
		}
		for i := 0; i < len(part); i += 4 {
			out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(part[i:])))
		}
	}
	return out, nil
}

// walk calls f for every tensor of a dictionary.
func walk(root any, f func(name string, v view) error) error {
	d, ok := root.(*dict)
	if !ok {
		return fmt.Errorf("%w: it holds a %T, not a dictionary of tensors", ErrFormat, root)
	}
	for _, p := range d.pairs {
		name, okName := p.key.(string)
		v, okView := p.value.(view)
		if !okName || !okView {
			return fmt.Errorf("%w: entry %.40v is no tensor", ErrFormat, p.key)
		}
		if err := f(name, v); err != nil {
			return err
		}
	}
	return nil
}

// tensors cuts the tensors out of their storages.
func tensors(root any, open func(storage) ([]float32, error)) (map[string]Tensor, error) {
	out := map[string]Tensor{}
	opened := map[string][]float32{}
	err := walk(root, func(name string, v view) error {
		if v.storage.kind != "FloatStorage" {
			return nil
		}
		values, ok := opened[v.storage.key]
		if !ok {
			var err error
			if values, err = open(v.storage); err != nil {
				return err
			}
			opened[v.storage.key] = values
		}
		n := int64(1)
		for i, extent := range slices.Backward(v.shape) {
			if extent != 1 && v.strides[i] != n {
				return fmt.Errorf("%w: %.60q is not contiguous; save a contiguous copy", ErrFormat, name)
			}
			if n *= int64(extent); n > math.MaxInt32 {
				return fmt.Errorf("%w: %.60q has shape %v", ErrFormat, name, v.shape)
			}
		}
		if v.offset > int64(len(values))-n {
			return fmt.Errorf("%w: %.60q reaches beyond its storage", ErrFormat, name)
		}
		if _, twice := out[name]; twice {
			return fmt.Errorf("%w: %.60q twice", ErrFormat, name)
		}
		out[name] = Tensor{Shape: v.shape, Data: values[v.offset : v.offset+n]}
		return nil
	})
	return out, err
}
