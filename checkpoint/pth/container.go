package pth

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
)

// readZip reads the form since PyTorch 1.6: NAME/data.pkl and NAME/data/KEY.
func readZip(r io.ReaderAt, size int64) (root any, open func(storage) (io.ReadCloser, error), err error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var program *zip.File
	data := map[string]*zip.File{}
	for _, f := range z.File {
		switch {
		case path.Base(f.Name) == "data.pkl":
			program = f
		case strings.HasSuffix(path.Dir(f.Name), "/data"):
			data[path.Base(f.Name)] = f
		case path.Base(f.Name) == "byteorder" && f.UncompressedSize64 == uint64(len("big")):
			return nil, nil, fmt.Errorf("%w: it is big endian; save it on another machine", ErrFormat)
		}
	}
	if program == nil {
		return nil, nil, fmt.Errorf("%w: the archive has no data.pkl", ErrFormat)
	}
	in, err := program.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer func() { _ = in.Close() }() // only read
	root, _, err = load(bufio.NewReader(in))
	return root, func(s storage) (io.ReadCloser, error) {
		f := data[s.key]
		if f == nil || f.UncompressedSize64 != uint64(s.count*elementSize[s.kind]) {
			return nil, fmt.Errorf("%w: storage %.20q of %d values is not in the archive", ErrFormat, s.key, s.count)
		}
		in, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return in, nil
	}, err
}

// magic is the first number of the older form, 0x1950a86a20f9469cfc6c, as its bytes.
const magic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

// readOld reads the older form: pickles of a magic number, a version, facts about the
// machine, the value, the storages' keys; then each storage, its length first.
func readOld(r io.ReaderAt, size int64) (root any, open func(storage) (io.ReadCloser, error), err error) {
	at := &position{r: bufio.NewReader(io.NewSectionReader(r, 0, size))}
	if m, _, err := load(at); err != nil || m != any(magic) {
		return nil, nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	if v, _, err := load(at); err != nil || v != any(int64(1001)) {
		return nil, nil, fmt.Errorf("%w: its version is not 1001", ErrFormat)
	}
	if _, _, err := load(at); err != nil {
		return nil, nil, err
	}
	root, kinds, err := load(at)
	if err != nil {
		return nil, nil, err
	}
	v, _, err := load(at)
	if err != nil {
		return nil, nil, err
	}
	keys, ok := v.(*list)
	if !ok {
		return nil, nil, fmt.Errorf("%w: no list of storages", ErrFormat)
	}
	starts := map[string]int64{}
	end := at.n
	for _, k := range keys.items {
		key, _ := k.(string)
		s, ok := kinds[key]
		var count [8]byte
		if _, err := r.ReadAt(count[:], end); err != nil || !ok || binary.LittleEndian.Uint64(count[:]) != uint64(s.count) {
			return nil, nil, fmt.Errorf("%w: storage %.20q is cut off or has another length than its tensors", ErrFormat, key)
		}
		starts[key] = end + 8
		if end += 8 + s.count*elementSize[s.kind]; end > size {
			return nil, nil, fmt.Errorf("%w: it ends in storage %.20q", ErrFormat, key)
		}
	}
	for key := range maps.Keys(kinds) {
		if _, ok := starts[key]; !ok {
			return nil, nil, fmt.Errorf("%w: storage %.20q is not in the file", ErrFormat, key)
		}
	}
	return root, func(s storage) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(r, starts[s.key], s.count*elementSize[s.kind])), nil
	}, nil
}

// position counts the bytes that were read.
type position struct {
	r *bufio.Reader
	n int64
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

func (p *position) ReadByte() (byte, error) {
	b, err := p.r.ReadByte()
	if err == nil {
		p.n++
	}
	return b, err
}
