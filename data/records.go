package data

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"unicode/utf8"
)

// CIFAR-10's record:
//
//	byte 0          label
//	bytes 1..1024   red, 32 rows of 32
//	.. 2048         green
//	.. 3072         blue
const (
	recordSide  = 32
	recordPlane = recordSide * recordSide
	recordLen   = 1 + 3*recordPlane
)

// recordLimits is what a file must satisfy.
type recordLimits struct {
	records  int // records of a file; 0: any number from 1
	maxLabel byte
	pickled  bool // the file is a pickle of CIFAR-10's Python version
	fix      string
}

// recordFile is a file of images.
type recordFile struct {
	*os.File
	base, stride int64 // where the first image's red plane begins; from one image to the next
}

// records is a data set of record files. Pixels stay in the files: a read is
// one pread, served by the page cache that all workers of a host share; only
// the labels are in memory.
type records struct {
	name   string
	files  []recordFile
	ends   []int // ends[i]: records in files 0..i
	labels []byte
	names  []string // of the labels, where a file says them
	limits recordLimits
	buffer sync.Pool // *[3 * recordPlane]byte
}

var (
	_ Dataset   = (*records)(nil)
	_ io.Closer = (*records)(nil)
)

func openRecords(name string, paths []string, limits recordLimits) (*records, error) {
	d := &records{name: name, limits: limits}
	d.buffer.New = func() any { return new([3 * recordPlane]byte) }
	for _, path := range paths {
		if err := d.add(path); err != nil {
			return nil, cmp.Or(err, d.Close())
		}
	}
	d.names = classNames(filepath.Dir(paths[0]))
	return d, nil
}

// classNames reads the names of the labels, a line each, from CIFAR-10's
// batches.meta.txt. They are for people: a file that is missing or odd names
// nothing.
func classNames(dir string) (names []string) {
	const file, limit = "batches.meta.txt", 64 << 10
	f, info, err := openRegular(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	defer f.Close()
	text := make([]byte, min(info.Size(), limit))
	if n, err := f.ReadAt(text, 0); n < len(text) || err != nil && !errors.Is(err, io.EOF) || !utf8.Valid(text) {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && len(names) < 256 {
			names = append(names, line)
		}
	}
	return names
}

// add opens a file and reads all of it once, for the labels.
func (d *records) add(path string) error {
	f, info, err := openRegular(path)
	if err != nil {
		return &MissingError{Path: path, Fix: d.limits.fix, Err: err}
	}
	file := recordFile{f, 1, recordLen}
	defer func() { d.files = append(d.files, file) }()
	if d.limits.pickled {
		base, labels, err := parsePickledBatch(f, info.Size(), d.limits)
		if err != nil {
			return &CorruptError{Path: path, Offset: -1, Reason: "cannot be used", Err: err, Fix: d.limits.fix}
		}
		file.base, file.stride = base, 3*recordPlane
		d.labels = append(d.labels, labels...)
	} else if d.labels, err = scanLabels(d.labels, f, info.Size(), path, d.limits); err != nil {
		return err
	}
	d.ends = append(d.ends, len(d.labels))
	return nil
}

// scanLabels appends the label of every record to labels, after checking the
// size and each label.
func scanLabels(labels []byte, r io.ReaderAt, size int64, path string, limits recordLimits) ([]byte, error) {
	corrupt := func(offset int64, err error, format string, args ...any) error {
		return &CorruptError{Path: path, Offset: offset, Reason: fmt.Sprintf(format, args...), Fix: limits.fix, Err: err}
	}
	want := int64(limits.records) * recordLen
	switch {
	case limits.records > 0 && size < want:
		return nil, corrupt(size, nil, "the file ends here; it must have %d bytes (%d records of %d)", want, limits.records, recordLen)
	case limits.records > 0 && size > want:
		return nil, corrupt(want, nil, "the file continues after its %d records of %d bytes; it has %d bytes", limits.records, recordLen, size)
	case size == 0:
		return nil, corrupt(0, nil, "the file is empty")
	case size%recordLen != 0:
		return nil, corrupt(size-size%recordLen, nil, "the last record is cut off after %d of %d bytes", size%recordLen, recordLen)
	}
	chunk := make([]byte, min(size, 64*recordLen))
	for offset := int64(0); offset < size; offset += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), size-offset)]
		if n, err := r.ReadAt(chunk, offset); n < len(chunk) {
			return nil, corrupt(offset+int64(n), err, "cannot be read")
		}
		for i := 0; i < len(chunk); i += recordLen {
			if chunk[i] > limits.maxLabel {
				return nil, corrupt(offset+int64(i), nil, "label %d; it must be 0 to %d", chunk[i], limits.maxLabel)
			}
			labels = append(labels, chunk[i])
		}
	}
	return labels, nil
}

func (d *records) Name() string                        { return d.name }
func (d *records) Len() int                            { return len(d.labels) }
func (d *records) Size() (height, width, channels int) { return recordSide, recordSide, 3 }
func (d *records) Label(index int) int                 { return int(d.labels[index]) }

// Classes returns the names of the labels, or nothing where no file says them.
func (d *records) Classes() []string { return slices.Clone(d.names) }

// ImageName is an image's file and place.
func (d *records) ImageName(index int) string {
	file := sort.SearchInts(d.ends, index+1)
	if file > 0 {
		index -= d.ends[file-1]
	}
	return fmt.Sprintf("%s: image %d", d.files[file].Name(), index)
}

// Fingerprint identifies the files by names and labels.
func (d *records) Fingerprint() string {
	names := make([]string, len(d.files))
	for i, f := range d.files {
		// The two versions of CIFAR-10 hold the same images in the same order.
		names[i] = strings.TrimSuffix(filepath.Base(f.Name()), ".bin")
	}
	return labelsFingerprint(names, d.labels)
}

func (d *records) Read(dst []float32, index int) error {
	checkRead(d, dst, index)
	file := sort.SearchInts(d.ends, index+1)
	first := 0
	if file > 0 {
		first = d.ends[file-1]
	}
	buffer := d.buffer.Get().(*[3 * recordPlane]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer d.buffer.Put(buffer)
	f := d.files[file]
	offset := f.base + int64(index-first)*f.stride
	if n, err := f.ReadAt(buffer[:], offset); n < len(buffer) {
		reason := "cannot be read"
		if errors.Is(err, io.EOF) {
			reason = "the file has become shorter since it was opened"
		}
		return &CorruptError{Path: f.Name(), Offset: offset + int64(n), Reason: reason, Err: err, Fix: d.limits.fix}
	}
	// From planes to channels innermost.
	red, green, blue := buffer[:recordPlane], buffer[recordPlane:2*recordPlane], buffer[2*recordPlane:]
	for i := range recordPlane {
		dst[3*i], dst[3*i+1], dst[3*i+2] = unit[red[i]], unit[green[i]], unit[blue[i]]
	}
	return nil
}

// Close closes the files; a read afterwards fails with os.ErrClosed. It is
// idempotent.
func (d *records) Close() error {
	var errs []error
	for _, f := range d.files {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
