package safetensors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	// MaxHeader is the longest header accepted, as in the reference.
	MaxHeader = 100_000_000

	prefixLen   = 8
	metadataKey = "__metadata__"
)

// Entry describes one tensor of a file.
type Entry struct {
	Name  string
	DType DType
	Shape []int // empty for a scalar; a zero makes an empty tensor
	Begin int64 // first byte, counted from the start of the data
	End   int64 // one past the last byte
}

// Len returns the number of elements.
func (e Entry) Len() int { return int((e.End - e.Begin) / e.DType.Size()) }

type header struct {
	entries  []Entry // in the order of the data
	index    map[string]int
	metadata map[string]string
}

// parseHeader checks the JSON text of a header against the dataLen bytes that
// follow it in the file. Offsets in errors count from the start of the file.
func parseHeader(text []byte, dataLen int64) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, &FormatError{Offset: prefixLen, Reason: "the header does not start with '{'"}
	}
	if !utf8.Valid(text) {
		return nil, &FormatError{Offset: prefixLen + int64(invalidUTF8(text)), Reason: "the header is not UTF-8"}
	}
	p := &parser{dec: json.NewDecoder(bytes.NewReader(text)), h: &header{index: map[string]int{}}}
	p.dec.UseNumber()
	if err := p.file(); err != nil {
		return nil, err
	}
	for i := int(p.dec.InputOffset()); i < len(text); i++ {
		if text[i] != ' ' {
			return nil, &FormatError{Offset: prefixLen + int64(i), Reason: "something other than spaces follows the header's object"}
		}
	}
	return p.h, p.h.layout(prefixLen+int64(len(text)), dataLen)
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// layout checks that the tensors tile the data: no hole, no overlap, nothing
// left over. start is the offset of the data in the file.
func (h *header) layout(start, dataLen int64) error {
	slices.SortFunc(h.entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End), cmp.Compare(a.Name, b.Name))
	})
	var at int64
	for i, e := range h.entries {
		fail := func(format string, args ...any) error {
			return &FormatError{Key: e.Name, Offset: addClamped(start, e.Begin), Reason: fmt.Sprintf(format, args...)}
		}
		if e.End < e.Begin {
			return fail("data_offsets [%d,%d) end before they begin", e.Begin, e.End)
		}
		if e.Begin > at {
			return fail("hole: the tensor begins at data offset %d, the one before ends at %d", e.Begin, at)
		}
		if e.Begin < at {
			return fail("overlap: the tensor begins at data offset %d, the one before ends at %d", e.Begin, at)
		}
		if e.End > dataLen {
			return fail("the tensor ends at data offset %d, the file holds %d bytes of data: it is cut short", e.End, dataLen)
		}
		size, ok := byteSize(e.Shape, e.DType)
		if !ok {
			return fail("shape %v of %v overflows", e.Shape, e.DType)
		}
		if size != e.End-e.Begin {
			return fail("shape %v of %v needs %d bytes, data_offsets give %d", e.Shape, e.DType, size, e.End-e.Begin)
		}
		at = e.End
		h.index[e.Name] = i
	}
	if at != dataLen {
		return &FormatError{Offset: start + at, Reason: fmt.Sprintf("%d bytes after the last tensor belong to none", dataLen-at)}
	}
	return nil
}

func addClamped(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// byteSize multiplies in the order of the shape and fails on any overflow, even
// one that a later zero would undo.
func byteSize(shape []int, d DType) (int64, bool) {
	n := uint64(1)
	for _, s := range shape {
		if s < 0 {
			return 0, false
		}
		hi, lo := bits.Mul64(n, uint64(s))
		if hi != 0 {
			return 0, false
		}
		n = lo
	}
	hi, lo := bits.Mul64(n, uint64(d.Size()))
	if hi != 0 || lo > math.MaxInt64 || lo > math.MaxInt {
		return 0, false
	}
	return int64(lo), true
}

// parser walks the header token by token: encoding/json would take the last of
// two equal keys in silence.
type parser struct {
	dec *json.Decoder
	h   *header
}

func (p *parser) fail(key, reason string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason, err = "the header's JSON is cut short", nil
	}
	return &FormatError{Key: key, Offset: prefixLen + p.dec.InputOffset(), Reason: reason, Err: err}
}

func (p *parser) token(key string) (json.Token, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, p.fail(key, "the header is not valid JSON", err)
	}
	return t, nil
}

func (p *parser) delim(key string, want json.Delim, what string) error {
	t, err := p.token(key)
	if err != nil {
		return err
	}
	if t != want {
		return p.fail(key, fmt.Sprintf("%s expected", what), nil)
	}
	return nil
}

// object calls visit for each key of the object whose '{' comes next.
func (p *parser) object(key, what string, visit func(name string) error) error {
	if err := p.delim(key, '{', what); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.token(key)
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return p.fail(key, "an object key expected", nil)
		}
		if seen[name] {
			if key == "" {
				key = name
			}
			return p.fail(key, fmt.Sprintf("%q occurs twice", shorten(name)), nil)
		}
		seen[name] = true
		if err := visit(name); err != nil {
			return err
		}
	}
	return p.delim(key, '}', "the end of the object")
}

func (p *parser) file() error {
	return p.object("", "an object", func(name string) error {
		if name == metadataKey {
			return p.metadata()
		}
		return p.tensor(name)
	})
}

func (p *parser) metadata() error {
	p.h.metadata = map[string]string{}
	return p.object(metadataKey, "an object of strings", func(name string) error {
		s, err := p.str(metadataKey, fmt.Sprintf("a string as the value of %q", shorten(name)))
		p.h.metadata[name] = s
		return err
	})
}

func (p *parser) str(key, what string) (string, error) {
	t, err := p.token(key)
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", p.fail(key, what+" expected", nil)
	}
	return s, nil
}

func (p *parser) tensor(key string) error {
	e := Entry{Name: key}
	var dtype, shape, offsets bool
	err := p.object(key, "an object with dtype, shape and data_offsets", func(field string) error {
		switch field {
		case "dtype":
			dtype = true
			return p.dtype(&e)
		case "shape":
			shape = true
			list, err := p.list(key, "shape", math.MaxInt)
			for _, v := range list {
				e.Shape = append(e.Shape, int(v))
			}
			return err
		case "data_offsets":
			offsets = true
			list, err := p.list(key, "data_offsets", math.MaxInt64)
			if err != nil {
				return err
			}
			if len(list) != 2 {
				return p.fail(key, fmt.Sprintf("data_offsets has %d numbers, not 2", len(list)), nil)
			}
			e.Begin, e.End = list[0], list[1]
			return nil
		}
		return p.fail(key, fmt.Sprintf("unknown field %q", shorten(field)), nil)
	})
	if err != nil {
		return err
	}
	if !dtype || !shape || !offsets {
		return p.fail(key, "dtype, shape or data_offsets is missing", nil)
	}
	p.h.entries = append(p.h.entries, e)
	return nil
}

func (p *parser) dtype(e *Entry) error {
	s, err := p.str(e.Name, "a string as dtype")
	if err != nil {
		return err
	}
	d, ok := ParseDType(s)
	if !ok {
		return p.fail(e.Name, fmt.Sprintf("unknown dtype %q (known: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL)", shorten(s)), nil)
	}
	e.DType = d
	return nil
}

// list reads an array of integers in [0, limit].
func (p *parser) list(key, field string, limit int64) ([]int64, error) {
	if err := p.delim(key, '[', field+": an array"); err != nil {
		return nil, err
	}
	var out []int64
	for p.dec.More() {
		t, err := p.token(key)
		if err != nil {
			return nil, err
		}
		n, ok := t.(json.Number)
		if !ok {
			return nil, p.fail(key, field+": an integer expected", nil)
		}
		v, err := strconv.ParseUint(n.String(), 10, 64)
		if err != nil || v > uint64(limit) {
			return nil, p.fail(key, fmt.Sprintf("%s: %s is not an integer from 0 to %d", field, shorten(n.String()), limit), nil)
		}
		out = append(out, int64(v))
	}
	return out, p.delim(key, ']', field+": the end of the array")
}
