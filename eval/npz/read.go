package npz

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Errors, wrapped with the file, the array and what is wrong.
var (
	ErrFormat  = errors.New("not a valid npz file")
	ErrObjects = errors.New("an array of Python objects is never read: save numbers")
	ErrMissing = errors.New("no array of this name")
)

// maxHeader bounds the text in front of an array; NumPy's own limit is 10,000.
const maxHeader = 1 << 16

// File is an opened archive. It is safe for concurrent use.
type File struct {
	path   string
	arrays map[string]*zip.File
	order  []string
	close  io.Closer
}

// Open reads the directory of the archive at path. The caller closes it.
func Open(path string) (*File, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		if errors.Is(err, zip.ErrFormat) {
			err = fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return nil, fmt.Errorf("npz: %s: %w", path, err)
	}
	return newFile(&z.Reader, path, z), nil
}

// New reads the directory of an archive of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("npz: %w: %w", ErrFormat, err)
	}
	return newFile(z, "archive", nil), nil
}

func newFile(z *zip.Reader, path string, c io.Closer) *File {
	f := &File{path: path, arrays: map[string]*zip.File{}, close: c}
	for _, entry := range z.File {
		name := strings.TrimSuffix(entry.Name, ".npy")
		if _, twice := f.arrays[name]; !twice {
			f.order = append(f.order, name)
		}
		f.arrays[name] = entry
	}
	return f
}

// Close releases the file.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close.Close()
}

// Names lists the arrays in the archive's order.
func (f *File) Names() []string { return append([]string(nil), f.order...) }

// Array is an array being read: its elements come front to back.
type Array struct {
	Name    string
	Shape   []int
	DType   string // NumPy's: f4, f8, u1, i8, ...
	Fortran bool   // elements are in column-major order

	label string
	order binary.ByteOrder
	size  int   // bytes of an element
	left  int64 // elements not yet read
	r     *bufio.Reader
	close io.Closer
}

// Open begins to read an array. The caller closes it.
func (f *File) Open(name string) (*Array, error) {
	entry, ok := f.arrays[name]
	if !ok {
		return nil, fmt.Errorf("npz: %s: %w: %q; it has %s", f.path, ErrMissing, name, strings.Join(f.order, ", "))
	}
	label := f.path + ": array " + strconv.Quote(name)
	body, err := entry.Open()
	if err != nil {
		return nil, fmt.Errorf("npz: %s: %w: %w", label, ErrFormat, err)
	}
	a := &Array{Name: name, label: label, r: bufio.NewReaderSize(body, 1<<16), close: body}
	header, err := a.begin()
	if err == nil {
		err = a.fits(entry.UncompressedSize64, header)
	}
	if err != nil {
		_ = body.Close() // says no more than err
		return nil, fmt.Errorf("npz: %s: %w", label, err)
	}
	return a, nil
}

// begin reads magic, version and header, and returns their length.
func (a *Array) begin() (length int64, err error) {
	var head [8]byte
	if _, err := io.ReadFull(a.r, head[:]); err != nil || string(head[:6]) != "\x93NUMPY" {
		return 0, fmt.Errorf("%w: it does not begin as a .npy array", ErrFormat)
	}
	field := make([]byte, 4)
	switch head[6] {
	case 1:
		field = field[:2]
	case 2, 3:
	default:
		return 0, fmt.Errorf("%w: version %d of the .npy format is unknown", ErrFormat, head[6])
	}
	if _, err := io.ReadFull(a.r, field); err != nil {
		return 0, fmt.Errorf("%w: it ends in the header", ErrFormat)
	}
	n := uint32(binary.LittleEndian.Uint16(field))
	if len(field) == 4 {
		n = binary.LittleEndian.Uint32(field)
	}
	if n > maxHeader {
		return 0, fmt.Errorf("%w: a header of %d bytes", ErrFormat, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(a.r, text); err != nil {
		return 0, fmt.Errorf("%w: it ends in the header", ErrFormat)
	}
	return int64(len(head)+len(field)) + int64(n), a.header(string(text))
}

// The header is a Python dictionary of these three entries, in any order.
var (
	headerForm    = regexp.MustCompile(`^\{(\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([0-9, L]*\))\s*,?){3}\s*\}\s*$`)
	headerDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	headerFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	headerShape   = regexp.MustCompile(`'shape'\s*:\s*\(([0-9, L]*)\)`)
	plainNumber   = regexp.MustCompile(`^[<>|=]?([fiu][1248])$`)
)

func (a *Array) header(text string) error {
	if strings.Contains(text, "O'") || strings.Contains(text, "[(") {
		return ErrObjects
	}
	descr, fortran, shape := headerDescr.FindStringSubmatch(text), headerFortran.FindStringSubmatch(text), headerShape.FindStringSubmatch(text)
	if !headerForm.MatchString(text) || descr == nil || fortran == nil || shape == nil {
		return fmt.Errorf("%w: header %.80q", ErrFormat, text)
	}
	kind := plainNumber.FindStringSubmatch(descr[1])
	if kind == nil || kind[1] == "f1" {
		return fmt.Errorf("%w: elements of type %q; integers and floats of up to 8 bytes are read", ErrFormat, descr[1])
	}
	a.DType, a.size, a.Fortran = kind[1], int(kind[1][1]-'0'), fortran[1] == "True"
	if a.DType == "f2" {
		return fmt.Errorf("%w: elements of type float16; save float32 or float64", ErrFormat)
	}
	a.order = binary.LittleEndian
	if descr[1][0] == '>' {
		a.order = binary.BigEndian
	}
	a.left, a.Shape = 1, []int{}
	for field := range strings.SplitSeq(shape[1], ",") {
		field = strings.TrimSuffix(strings.TrimSpace(field), "L")
		if field == "" {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 32)
		if err != nil || (n > 0 && a.left > math.MaxInt32*8/n) {
			return fmt.Errorf("%w: shape (%s) is too large", ErrFormat, shape[1])
		}
		a.Shape = append(a.Shape, int(n))
		a.left *= n
	}
	return nil
}

// fits checks that the entry holds exactly the elements of the shape.
func (a *Array) fits(entry uint64, header int64) error {
	if want := uint64(header) + uint64(a.left)*uint64(a.size); entry != want {
		return fmt.Errorf("%w: shape %v of type %s needs %d bytes, it has %d", ErrFormat, a.Shape, a.DType, want, entry)
	}
	return nil
}

// Len is the number of elements that are left to read.
func (a *Array) Len() int64 { return a.left }

// Read fills dst with the next elements. It fails with io.EOF where fewer are left.
func (a *Array) Read(dst []float64) error {
	if int64(len(dst)) > a.left {
		return io.EOF
	}
	buf := make([]byte, min(len(dst), 8192)*a.size)
	for len(dst) > 0 {
		n := min(len(dst), 8192)
		if _, err := io.ReadFull(a.r, buf[:n*a.size]); err != nil {
			return fmt.Errorf("npz: %s: %w: %w", a.label, ErrFormat, err)
		}
		for i := range n {
			dst[i] = a.element(buf[i*a.size:])
		}
		dst = dst[n:]
		a.left -= int64(n)
	}
	return nil
}

func (a *Array) element(b []byte) float64 {
	switch a.DType {
	case "u1":
		return float64(b[0])
	case "i1":
		return float64(int8(b[0]))
	case "u2":
		return float64(a.order.Uint16(b))
	case "i2":
		return float64(int16(a.order.Uint16(b)))
	case "u4":
		return float64(a.order.Uint32(b))
	case "i4":
		return float64(int32(a.order.Uint32(b)))
	case "u8":
		return float64(a.order.Uint64(b))
	case "i8":
		return float64(int64(a.order.Uint64(b)))
	case "f4":
		return float64(math.Float32frombits(a.order.Uint32(b)))
	default: // f8
		return math.Float64frombits(a.order.Uint64(b))
	}
}

// Close releases the array.
func (a *Array) Close() error { return a.close.Close() }
