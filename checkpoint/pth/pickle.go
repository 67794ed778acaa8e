package pth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Errors, wrapped with what was met.
var (
	// ErrForbidden is for names and instructions that a dictionary of tensors has no
	// use for: whoever wrote them wanted something else to happen.
	ErrForbidden = errors.New("a dictionary of tensors does not contain this")
	ErrFormat    = errors.New("not a file of torch.save")
)

// Bounds of a pickle: its real ones have some thousands of values and short names.
const (
	maxText   = 1 << 16
	maxValues = 1 << 20
)

// The values of a pickle are int64, float64, string, bool, nil, and these.
type (
	tuple  []any
	list   struct{ items []any }
	dict   struct{ pairs []pair }
	global string // module.name
	mark   struct{}
	pair   struct{ key, value any }
)

// storage is a flat vector somewhere else in the file.
type storage struct {
	kind  string // FloatStorage, ...
	key   string
	count int64
}

// view is a tensor of a storage.
type view struct {
	storage storage
	offset  int64
	shape   []int
	strides []int64
}

// elementSize is the bytes of an element of the storages that may appear.
var elementSize = map[string]int64{
	"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2,
	"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}

// kindOf says what a value is. (A value itself may be as large as it likes when it is
// printed: a pickle can hold one tuple a million times.)
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case *dict:
		return "a dictionary"
	case *list, tuple:
		return "a list"
	case view:
		return "a tensor"
	case global:
		return "the name " + string(v)
	case int64, float64, bool:
		return "a number"
	case string:
		return "a text"
	}
	return "no value"
}

// machine interprets one pickle.
type machine struct {
	r     io.ByteReader
	full  io.Reader
	stack []any
	memo  map[uint32]any
	made  int
	used  map[string]storage // by key
}

// reader is what pickles are read from.
type reader interface {
	io.Reader
	io.ByteReader
}

// load interprets a pickle up to its end. It returns also the storages that were named.
func load(r reader) (value any, used map[string]storage, err error) {
	m := &machine{r: r, full: r, memo: map[uint32]any{}, used: map[string]storage{}}
	for {
		op, err := r.ReadByte()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: the pickle ends without its end mark", ErrFormat)
		}
		if op == '.' {
			value, err := m.pop()
			return value, m.used, err
		}
		if err := m.step(op); err != nil {
			return nil, nil, err
		}
		if m.made++; m.made > maxValues || len(m.stack) > maxValues {
			return nil, nil, fmt.Errorf("%w: a pickle of more than %d instructions", ErrFormat, maxValues)
		}
	}
}

func (m *machine) push(v any) error {
	m.stack = append(m.stack, v)
	return nil
}

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, fmt.Errorf("%w: the pickle takes a value that is not there", ErrFormat)
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// popMark takes everything above the last mark.
func (m *machine) popMark() ([]any, error) {
	for i, v := range slices.Backward(m.stack) {
		if _, ok := v.(mark); ok {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, fmt.Errorf("%w: the pickle takes values after a mark that is not there", ErrFormat)
}

// popN takes n values.
func (m *machine) popN(n int) ([]any, error) {
	if len(m.stack) < n {
		return nil, fmt.Errorf("%w: the pickle takes values that are not there", ErrFormat)
	}
	items := append([]any(nil), m.stack[len(m.stack)-n:]...)
	m.stack = m.stack[:len(m.stack)-n]
	return items, nil
}

func (m *machine) bytes(n int) ([]byte, error) {
	if n > maxText {
		return nil, fmt.Errorf("%w: a text of %d bytes", ErrFormat, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m.full, b); err != nil {
		return nil, fmt.Errorf("%w: the pickle is cut off", ErrFormat)
	}
	return b, nil
}

// number reads an unsigned little-endian number of n bytes.
func (m *machine) number(n int) (uint64, error) {
	b, err := m.bytes(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// line reads up to a newline.
func (m *machine) line() (string, error) {
	var b []byte
	for len(b) < maxText {
		c, err := m.r.ReadByte()
		if err != nil {
			return "", fmt.Errorf("%w: the pickle is cut off", ErrFormat)
		}
		if c == '\n' {
			return string(b), nil
		}
		b = append(b, c)
	}
	return "", fmt.Errorf("%w: a name of more than %d bytes", ErrFormat, maxText)
}

// step carries out one instruction.
func (m *machine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		n, err := m.number(1)
		if err == nil && n > 5 {
			err = fmt.Errorf("%w: pickle protocol %d", ErrFormat, n)
		}
		return err
	case '(':
		return m.push(mark{})
	case 'N':
		return m.push(nil)
	case 0x88, 0x89:
		return m.push(op == 0x88)
	case '}':
		return m.push(&dict{})
	case ']':
		return m.push(&list{})
	case ')':
		return m.push(tuple{})
	case 0x85, 0x86, 0x87:
		items, err := m.popN(int(op) - 0x84)
		if err != nil {
			return err
		}
		return m.push(tuple(items))
	case 't':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.push(tuple(items))
	case 0x95: // FRAME: how much follows that may be read at once
		_, err := m.number(8)
		return err
	case 'K', 'M', 'J', 0x8a, 'G', 'X', 'U', 'T', 0x8c:
		return m.literal(op)
	case 'q', 'r', 'h', 'j', 0x94:
		return m.remember(op)
	case 's', 'u', 'a', 'e', 'b':
		return m.fill(op)
	case 'c', 0x93:
		return m.name(op)
	case 'R':
		return m.call()
	case 'Q':
		return m.persistent()
	}
	return fmt.Errorf("%w: pickle instruction 0x%02x", ErrForbidden, op)
}

// literal pushes a number or a text.
func (m *machine) literal(op byte) error {
	width := map[byte]int{'K': 1, 'M': 2, 'J': 4, 0x8a: 1, 'G': 8, 'X': 4, 'U': 1, 'T': 4, 0x8c: 1}[op]
	n, err := m.number(width)
	if err != nil {
		return err
	}
	switch op {
	case 'K', 'M':
		return m.push(int64(n))
	case 'J':
		return m.push(int64(int32(uint32(n))))
	case 'G': // big endian
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		return m.push(math.Float64frombits(binary.BigEndian.Uint64(b[:])))
	}
	text, err := m.bytes(int(n & math.MaxInt32))
	if err != nil {
		return err
	}
	if op != 0x8a {
		return m.push(string(text))
	}
	if len(text) > 8 { // only the magic number of the older form is so long
		return m.push(string(text))
	}
	var v uint64
	for i, b := range text {
		v |= uint64(b) << (8 * i)
	}
	if n := len(text); n > 0 && n < 8 && text[n-1] >= 0x80 {
		v |= math.MaxUint64 << (8 * n)
	}
	return m.push(int64(v))
}

// remember is the memo.
func (m *machine) remember(op byte) error {
	width := map[byte]int{'q': 1, 'h': 1, 'r': 4, 'j': 4}[op]
	n := uint64(len(m.memo)) // MEMOIZE takes the next number
	if op != 0x94 {
		var err error
		if n, err = m.number(width); err != nil {
			return err
		}
	}
	if op != 'h' && op != 'j' {
		if len(m.stack) == 0 {
			return fmt.Errorf("%w: the pickle remembers a value that is not there", ErrFormat)
		}
		m.memo[uint32(n)] = m.stack[len(m.stack)-1]
		return nil
	}
	v, ok := m.memo[uint32(n)]
	if !ok {
		return fmt.Errorf("%w: the pickle recalls a value that was not remembered", ErrFormat)
	}
	return m.push(v)
}

// fill adds to a list or a dictionary; BUILD's state (a dictionary's _metadata) is
// dropped.
func (m *machine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 's':
		items, err = m.popN(2)
	case 'a', 'b':
		items, err = m.popN(1)
	default:
		items, err = m.popMark()
	}
	if err != nil {
		return err
	}
	if len(m.stack) == 0 {
		return fmt.Errorf("%w: the pickle fills what is not there", ErrFormat)
	}
	top := m.stack[len(m.stack)-1]
	switch op {
	case 'b':
		if _, ok := top.(*dict); !ok {
			return fmt.Errorf("%w: a state for %s", ErrForbidden, kindOf(top))
		}
	case 'a', 'e':
		l, ok := top.(*list)
		if !ok {
			return fmt.Errorf("%w: an element for %s", ErrFormat, kindOf(top))
		}
		l.items = append(l.items, items...)
	default:
		d, ok := top.(*dict)
		if !ok || len(items)%2 != 0 {
			return fmt.Errorf("%w: entries for %s", ErrFormat, kindOf(top))
		}
		for i := 0; i < len(items); i += 2 {
			d.pairs = append(d.pairs, pair{items[i], items[i+1]})
		}
	}
	return nil
}
