package data

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/agrdist/agrdist/data/imagefile"
)

// Index is what a scan of an image folder found: the list of images that a run
// trains on, the same on all its workers.
type Index struct {
	Images  []Image // by path, in byte order
	Skipped []Skip  // everything else, by path
}

// Image is an image file that can be used.
type Image struct {
	Path     string // slash-separated, relative to the folder; any bytes
	Size     int64  // bytes
	ModTime  int64  // nanoseconds since 1970
	Verified bool   // decoded whole, not only its header read
	Header   imagefile.Header
}

// Skip is a file or directory that is not used.
type Skip struct {
	Path   string
	Reason Reason
	Detail string // one line; may be empty
}

// String is a line for people.
func (s Skip) String() string {
	if s.Detail == "" {
		return fmt.Sprintf("%s: %s", quoted(s.Path), s.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", quoted(s.Path), s.Reason, s.Detail)
}

// Reason is why something is not used.
type Reason string

// Reasons. Those that are an image's fault are refused unless data.corrupt is
// skip; the others never were images to train on.
const (
	SkipHidden    Reason = "hidden"                         // a name that starts with a dot
	SkipOther     Reason = "not an image by its name"       // .txt, .json, ...
	SkipNoImage   Reason = "not an image by its contents"   // a name without an extension
	SkipDirectory Reason = "directory that cannot be read"  // lost+found
	SkipSeen      Reason = "directory that was read before" // a link back
	SkipSpecial   Reason = "not a regular file"
	SkipDangling  Reason = "link that leads nowhere"
	SkipDenied    Reason = "cannot be read"
	SkipEmpty     Reason = Reason(imagefile.Empty)
	SkipDamaged   Reason = Reason(imagefile.Damaged)
	SkipTooLarge  Reason = Reason(imagefile.TooLarge)
	SkipNotRead   Reason = Reason(imagefile.NotRead)
)

// Fault says whether something that was meant as an image cannot be used.
func (r Reason) Fault() bool {
	switch r {
	case SkipHidden, SkipOther, SkipNoImage, SkipDirectory, SkipSeen:
		return false
	default:
		return true
	}
}

// Faults returns the files that were meant as images and cannot be used.
func (x *Index) Faults() []Skip {
	return slices.DeleteFunc(slices.Clone(x.Skipped), func(s Skip) bool { return !s.Reason.Fault() })
}

// Summary says in one line what is not used, by reason; empty where everything is.
func (x *Index) Summary() string { return countReasons(x.Skipped) }

// Fingerprint identifies the list of images by paths, sizes in bytes and in
// pixels: "1906-5f3c...", the number of images and 16 hexadecimal digits.
func (x *Index) Fingerprint() string {
	h := sha256.New()
	for _, m := range x.Images {
		fmt.Fprintf(h, "%q %d %d %d\n", m.Path, m.Size, m.Header.Width, m.Header.Height)
	}
	return fingerprint(len(x.Images), h.Sum(nil))
}

func fingerprint(images int, sum []byte) string {
	return fmt.Sprintf("%d-%s", images, hex.EncodeToString(sum[:8]))
}

// The text form is a line a file, fields separated by tabs; names are Go string
// literals, so that any bytes survive and a person can read it:
//
//	agrdist image index 2
//	image  SIZE  MTIME  VERIFIED  FORMAT  WIDTH  HEIGHT  MODE  ORIENTATION  ANIMATED  "PATH"
//	skip   SIZE  MTIME  REASON  "DETAIL"  "PATH"
//	sum    SHA-256 of the lines above
const indexMagic = "agrdist image index 2"

// indexWriter writes the text form; close writes its last line.
type indexWriter struct {
	out *bufio.Writer
	sum hash.Hash
}

func newIndexWriter(w io.Writer) *indexWriter {
	x := &indexWriter{out: bufio.NewWriter(w), sum: sha256.New()}
	fmt.Fprintln(x, indexMagic)
	return x
}

// Write implements io.Writer. Its errors are those of close.
func (x *indexWriter) Write(p []byte) (int, error) {
	x.sum.Write(p)
	return x.out.Write(p)
}

func (x *indexWriter) close() error {
	fmt.Fprintf(x.out, "sum\t%x\n", x.sum.Sum(nil))
	return x.out.Flush() // the first error of all writes
}

// Encode writes the index in its text form.
func (x *Index) Encode(w io.Writer) error {
	out := newIndexWriter(w)
	for _, m := range x.Images {
		writeImage(out, m)
	}
	for _, s := range x.Skipped {
		writeSkip(out, cachedSkip{Skip: s})
	}
	return out.close()
}

func writeImage(w io.Writer, m Image) {
	h := m.Header
	fmt.Fprintf(w, "image\t%d\t%d\t%t\t%s\t%d\t%d\t%s\t%d\t%t\t%s\n", m.Size, m.ModTime, m.Verified,
		h.Format, h.Width, h.Height, h.Mode, h.Orientation, h.Animated, strconv.Quote(m.Path))
}

// cachedSkip is a skip with the state of the file it was found in.
type cachedSkip struct {
	Skip
	size, modTime int64
}

func writeSkip(w io.Writer, s cachedSkip) {
	fmt.Fprintf(w, "skip\t%d\t%d\t%s\t%s\t%s\n", s.size, s.modTime, s.Reason, strconv.Quote(s.Detail), strconv.Quote(s.Path))
}

// DecodeIndex reads the text form.
func DecodeIndex(r io.Reader) (*Index, error) {
	x := &Index{}
	err := readIndex(r, func(m Image) { x.Images = append(x.Images, m) }, func(s cachedSkip) { x.Skipped = append(x.Skipped, s.Skip) })
	return x, err
}

var errIndexDamaged = errors.New("the list of images is damaged")

func readIndex(r io.Reader, image func(Image), skip func(cachedSkip)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	lines.Split(wholeLines)
	sum, ended := sha256.New(), false
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\n")
		fields := strings.Split(line, "\t")
		switch {
		case n == 1 && line != indexMagic:
			return errors.New("not an image index of this version")
		case n == 1:
		case ended:
			return fmt.Errorf("%w: line %d follows its end", errIndexDamaged, n)
		case fields[0] == "sum":
			if lines.Text() != fmt.Sprintf("sum\t%x\n", sum.Sum(nil)) {
				return fmt.Errorf("%w: its checksum does not match", errIndexDamaged)
			}
			ended = true
		case fields[0] == "image" && len(fields) == 11:
			m, err := parseImage(fields)
			if err != nil {
				return fmt.Errorf("%w: line %d: %w", errIndexDamaged, n, err)
			}
			image(m)
		case fields[0] == "skip" && len(fields) == 6:
			s, err := parseSkip(fields)
			if err != nil {
				return fmt.Errorf("%w: line %d: %w", errIndexDamaged, n, err)
			}
			skip(s)
		default:
			return fmt.Errorf("%w: line %d: neither an image nor a skip", errIndexDamaged, n)
		}
		sum.Write(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !ended {
		return fmt.Errorf("%w: it is cut short", errIndexDamaged)
	}
	return nil
}

// wholeLines splits at newlines and leaves them in: a checksum is of every byte.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// fieldReader parses fields and keeps the first error.
type fieldReader struct{ err error }

func parsed[T any](f *fieldReader, v T, err error) T {
	if err != nil && f.err == nil {
		f.err = err
	}
	return v
}

func (f *fieldReader) int64(s string) int64 {
	v, err := strconv.ParseInt(s, 10, 64)
	return parsed(f, v, err)
}

func (f *fieldReader) int(s string) int {
	v, err := strconv.Atoi(s)
	return parsed(f, v, err)
}

func (f *fieldReader) bool(s string) bool {
	v, err := strconv.ParseBool(s)
	return parsed(f, v, err)
}

func (f *fieldReader) text(s string) string {
	v, err := strconv.Unquote(s)
	return parsed(f, v, err)
}

func parseImage(s []string) (Image, error) {
	var f fieldReader
	m := Image{
		Size: f.int64(s[1]), ModTime: f.int64(s[2]), Verified: f.bool(s[3]), Path: f.text(s[10]),
		Header: imagefile.Header{
			Format: imagefile.Format(unique.Make(s[4]).Value()), Width: f.int(s[5]), Height: f.int(s[6]), Mode: unique.Make(s[7]).Value(),
			Orientation: f.int(s[8]), Animated: f.bool(s[9]),
		},
	}
	return m, f.err
}

func parseSkip(s []string) (cachedSkip, error) {
	var f fieldReader
	skip := cachedSkip{size: f.int64(s[1]), modTime: f.int64(s[2])}
	skip.Reason, skip.Detail, skip.Path = Reason(s[3]), f.text(s[4]), f.text(s[5])
	return skip, f.err
}
