package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// File is an opened safetensors file. Its header has been checked in full; it
// is safe for concurrent use.
type File struct {
	*header
	r     io.ReaderAt
	start int64 // offset of the data
	path  string
	close func() error
}

// ReadFile reads the whole file into memory and checks it.
func ReadFile(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return open(bytes.NewReader(b), int64(len(b)), path)
}

// Open checks the header and leaves the data on disk until it is asked for.
// The caller closes the file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("safetensors: %w", err), f.Close())
	}
	sf, err := open(f, st.Size(), path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sf.close = f.Close
	return sf, nil
}

// Parse reads a file held in memory; b must not change afterwards.
func Parse(b []byte) (*File, error) { return open(bytes.NewReader(b), int64(len(b)), "") }

// NewFile reads a file of size bytes through r, which must stay valid.
func NewFile(r io.ReaderAt, size int64) (*File, error) { return open(r, size, "") }

func open(r io.ReaderAt, size int64, path string) (*File, error) {
	h, start, err := readHeader(io.NewSectionReader(r, 0, size), size)
	if err != nil {
		return nil, withPath(err, path)
	}
	return &File{header: h, r: r, start: start, path: path}, nil
}

// readHeader takes the prefix and the header off r and returns the offset of
// the data.
func readHeader(r io.Reader, size int64) (*header, int64, error) {
	if size < prefixLen {
		return nil, 0, &FormatError{Offset: size, Reason: fmt.Sprintf("the file has %d bytes, its first number alone takes 8", size)}
	}
	var prefix [prefixLen]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, 0, &FormatError{Reason: "reading the header's length", Err: err}
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > MaxHeader {
		return nil, 0, &FormatError{Reason: fmt.Sprintf("a header of %d bytes is announced, at most %d are allowed: not a safetensors file?", n, MaxHeader)}
	}
	if int64(n) > size-prefixLen {
		return nil, 0, &FormatError{Reason: fmt.Sprintf("a header of %d bytes is announced, %d follow: the file is cut short", n, size-prefixLen)}
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, 0, &FormatError{Offset: prefixLen, Reason: "reading the header", Err: err}
	}
	start := prefixLen + int64(n)
	h, err := parseHeader(text, size-start)
	return h, start, err
}

func withPath(err error, path string) error {
	var fe *FormatError
	if errors.As(err, &fe) && fe.Path == "" {
		fe.Path = path
	}
	return err
}

// Close releases the file; it does nothing for one held in memory.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

// Names returns the names of the tensors, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.index)) }

// Entries returns the tensors in the order of the data.
func (f *File) Entries() []Entry { return slices.Clone(f.entries) }

// Lookup returns the description of a tensor.
func (f *File) Lookup(name string) (Entry, bool) {
	i, ok := f.index[name]
	if !ok {
		return Entry{}, false
	}
	return f.entries[i], true
}

// Metadata returns a copy of the strings under __metadata__; never nil.
func (f *File) Metadata() map[string]string {
	m := maps.Clone(f.metadata)
	if m == nil {
		m = map[string]string{}
	}
	return m
}

// Float32 returns the elements of a tensor of any dtype as float32, and its
// shape. F16, BF16 and small integers are exact; F64, I64 and I32 are rounded
// to nearest (a large F64 becomes infinity); BOOL gives 0 and 1.
func (f *File) Float32(name string) ([]float32, []int, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, nil, err
	}
	dst := make([]float32, e.Len())
	if err := f.decode(e, float32Decoder(e.DType, dst)); err != nil {
		return nil, nil, err
	}
	return dst, slices.Clone(e.Shape), nil
}

// Float32Into is Float32 into dst, whose length must be that of the tensor.
func (f *File) Float32Into(dst []float32, name string) error {
	e, err := f.find(name)
	if err != nil {
		return err
	}
	if len(dst) != e.Len() {
		return fmt.Errorf("safetensors: %skey %q: destination of %d elements for a tensor of %d", f.prefix(), name, len(dst), e.Len())
	}
	return f.decode(e, float32Decoder(e.DType, dst))
}

// Int64 returns the elements of an integer or BOOL tensor, and its shape.
func (f *File) Int64(name string) ([]int64, []int, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, nil, err
	}
	dst := make([]int64, e.Len())
	d, ok := int64Decoder(e.DType, dst)
	if !ok {
		return nil, nil, fmt.Errorf("safetensors: %skey %q: %v is not an integer type", f.prefix(), name, e.DType)
	}
	if err := f.decode(e, d); err != nil {
		return nil, nil, err
	}
	return dst, slices.Clone(e.Shape), nil
}

// Bytes returns the data of a tensor as it lies in the file.
func (f *File) Bytes(name string) ([]byte, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, e.End-e.Begin)
	err = f.decode(e, func(at int, raw []byte) { copy(b[int64(at)*e.DType.Size():], raw) })
	return b, err
}

func (f *File) prefix() string {
	if f.path == "" {
		return ""
	}
	return f.path + ": "
}

func (f *File) find(name string) (Entry, error) {
	e, ok := f.Lookup(name)
	if !ok {
		return Entry{}, fmt.Errorf("safetensors: %skey %q: %w", f.prefix(), name, ErrNotFound)
	}
	return e, nil
}

func (f *File) decode(e Entry, d decoder) error {
	r := io.NewSectionReader(f.r, f.start+e.Begin, e.End-e.Begin)
	if err := stream(r, e, f.start, make([]byte, min(chunkLen, e.End-e.Begin)), d); err != nil {
		return withPath(err, f.path)
	}
	return nil
}
