package data

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// A pickle is a program for a stack machine that may call any Python function.
// This reader knows the opcodes and the four functions that CIFAR-10's files need
// (dicts, lists, integers, strings, NumPy arrays) and refuses the rest; it calls
// nothing. Long strings are not read but noted as places in the file.

// blob is a long string: bytes [at, at+length) of the file.
type blob struct{ at, length int64 }

// array is a NumPy array.
type array struct {
	shape   []int64
	dtype   string // as "u1"
	fortran bool
	data    any // blob, or string of a short one
}

type (
	mark   struct{}
	global string // "module name"
	tuple  []any
	list   struct{ items []any }
	dict   struct{ keys, values []any }
)

const (
	pickleShort = 1 << 12 // strings up to this length are read
	pickleStack = 1 << 20 // values
)

var errPickle = errors.New("not a pickle of CIFAR-10's Python version")

// unpickler is one run of the machine.
type unpickler struct {
	r     *bufio.Reader
	at    int64 // of the next byte
	size  int64
	stack []any
	memo  map[uint32]any
}

// unpickle runs the program in r, of size bytes, and returns what it leaves.
func unpickle(r io.Reader, size int64) (any, error) {
	u := &unpickler{r: bufio.NewReaderSize(r, 1<<16), size: size, memo: map[uint32]any{}}
	for {
		op, err := u.uint(1)
		if err == nil && op == '.' {
			return u.pop(), u.check(len(u.stack) == 0)
		}
		if err == nil {
			err = u.step(byte(op))
		}
		if err == nil && len(u.stack) > pickleStack {
			err = fmt.Errorf("%w: more than %d values", errPickle, pickleStack)
		}
		if err != nil {
			return nil, fmt.Errorf("byte %d: %w", u.at, err)
		}
	}
}

func (u *unpickler) check(ok bool) error {
	if !ok {
		return errPickle
	}
	return nil
}

// step does one opcode.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		_, err := u.uint(1)
		return err
	case 0x95: // FRAME
		_, err := u.uint(8)
		return err
	case '(':
		u.push(mark{})
	case '}':
		u.push(&dict{})
	case ']':
		u.push(&list{})
	case ')':
		u.push(tuple{})
	case 'N':
		u.push(nil)
	case 0x88, 0x89:
		u.push(op == 0x88)
	case 0x85, 0x86, 0x87: // TUPLE1, 2, 3
		n := int(op) - 0x84
		if len(u.stack) < n {
			return errPickle
		}
		t := append(tuple(nil), u.stack[len(u.stack)-n:]...)
		u.stack = append(u.stack[:len(u.stack)-n], t)
	case 't', 'l', 'd', 'a', 'e', 's', 'u':
		return u.collect(op)
	case 'q', 'r', 'h', 'j', 0x94:
		return u.remember(op)
	case 'K', 'M', 'J', 0x8a, 'I':
		return u.integer(op)
	case 'U', 'T', 'C', 'B', 0x8e, 0x96, 'X', 0x8c, 0x8d:
		return u.text(map[byte]int{'U': 1, 'C': 1, 0x8c: 1, 0x8e: 8, 0x96: 8, 0x8d: 8}[op])
	case 'c', 0x93, 'R', 'b':
		return u.object(op)
	default:
		return fmt.Errorf("%w: opcode %#x", errPickle, op)
	}
	return nil
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

func (u *unpickler) pop() any {
	if len(u.stack) == 0 {
		return mark{} // fits nowhere
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v
}

// toMark pops what lies above the last mark.
func (u *unpickler) toMark() ([]any, error) {
	for i, v := range slices.Backward(u.stack) {
		if _, ok := v.(mark); ok {
			items := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return items, nil
		}
	}
	return nil, errPickle
}

// collect builds tuples, lists and dicts.
func (u *unpickler) collect(op byte) (err error) {
	var items []any
	switch op {
	case 'a':
		items = []any{u.pop()}
	case 's':
		value := u.pop()
		items = []any{u.pop(), value}
	default:
		if items, err = u.toMark(); err != nil {
			return err
		}
	}
	switch op {
	case 't':
		u.push(tuple(items))
		return nil
	case 'l':
		u.push(&list{items})
		return nil
	case 'd':
		u.push(&dict{})
	}
	if len(u.stack) == 0 {
		return errPickle
	}
	switch to := u.stack[len(u.stack)-1].(type) {
	case *list:
		to.items = append(to.items, items...)
		return u.check(op == 'a' || op == 'e')
	case *dict:
		for i := 0; i+1 < len(items); i += 2 {
			to.keys, to.values = append(to.keys, items[i]), append(to.values, items[i+1])
		}
		return u.check(len(items)%2 == 0 && (op == 's' || op == 'u' || op == 'd'))
	}
	return errPickle
}

// remember reads and writes the memo.
func (u *unpickler) remember(op byte) error {
	at := uint64(len(u.memo)) // MEMOIZE
	if op != 0x94 {
		n := 1
		if op == 'r' || op == 'j' {
			n = 4
		}
		var err error
		if at, err = u.uint(n); err != nil {
			return err
		}
	}
	if op == 'h' || op == 'j' {
		v, ok := u.memo[uint32(at)]
		u.push(v)
		return u.check(ok)
	}
	if len(u.stack) == 0 {
		return errPickle
	}
	u.memo[uint32(at)] = u.stack[len(u.stack)-1]
	return nil
}

func (u *unpickler) integer(op byte) error {
	switch op {
	case 'K', 'M', 'J':
		n := map[byte]int{'K': 1, 'M': 2, 'J': 4}[op]
		v, err := u.uint(n)
		if op == 'J' {
			v = uint64(int64(int32(v)))
		}
		u.push(int64(v))
		return err
	case 'I': // a line of text
		var line []byte
		for len(line) < 32 {
			c, err := u.uint(1)
			if err != nil {
				return err
			}
			if c == '\n' {
				break
			}
			line = append(line, byte(c))
		}
		v, err := strconv.ParseInt(string(line), 10, 64)
		u.push(v)
		return u.check(err == nil)
	}
	n, err := u.uint(1) // LONG1
	if err != nil || n > 8 {
		return errors.Join(err, u.check(n <= 8))
	}
	v, err := u.uint(int(n))
	if n > 0 && n < 8 && v>>(8*n-1) == 1 {
		v |= ^uint64(0) << (8 * n)
	}
	u.push(int64(v))
	return err
}

// text reads a string whose length has n bytes; 0 stands for 4.
func (u *unpickler) text(n int) error {
	if n == 0 {
		n = 4
	}
	length, err := u.uint(n)
	if err != nil {
		return err
	}
	if length > uint64(u.size-u.at) {
		return io.ErrUnexpectedEOF
	}
	if length > pickleShort {
		u.push(blob{u.at, int64(length)})
		_, err = u.r.Discard(int(length))
	} else {
		b := make([]byte, length)
		_, err = io.ReadFull(u.r, b)
		u.push(string(b))
	}
	u.at += int64(length)
	return err
}

// uint reads n bytes, little endian.
func (u *unpickler) uint(n int) (uint64, error) {
	var b [8]byte
	k, err := io.ReadFull(u.r, b[:n])
	u.at += int64(k)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return binary.LittleEndian.Uint64(b[:]), err
}

// object does what concerns functions and what they make.
func (u *unpickler) object(op byte) error {
	switch op {
	case 'c':
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		u.push(global(module + " " + name))
		return err
	case 0x93: // STACK_GLOBAL
		name, ok1 := u.pop().(string)
		module, ok2 := u.pop().(string)
		u.push(global(module + " " + name))
		return u.check(ok1 && ok2)
	case 'R':
		args, ok1 := u.pop().(tuple)
		f, ok2 := u.pop().(global)
		if !ok1 || !ok2 {
			return errPickle
		}
		return u.call(f, args)
	}
	state, _ := u.pop().(tuple) // BUILD
	if len(u.stack) == 0 {
		return errPickle
	}
	switch to := u.stack[len(u.stack)-1].(type) {
	case *array: // version, shape, dtype, fortran order, data
		if len(state) != 5 {
			return errPickle
		}
		return to.set(state[1], state[2], state[3] == true, state[4])
	case string: // dtype's state: byte order and the like
		return nil
	}
	return errPickle
}

func (u *unpickler) line() (string, error) {
	text, err := u.r.ReadSlice('\n')
	u.at += int64(len(text))
	if err != nil || len(text) > 100 {
		return "", errPickle
	}
	return string(text[:len(text)-1]), nil
}

// call is what the functions that are known would do.
func (u *unpickler) call(f global, args tuple) error {
	switch f {
	case "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct":
		u.push(&array{})
		return nil
	case "numpy dtype":
		if len(args) < 1 {
			return errPickle
		}
		name, ok := args[0].(string)
		u.push(name)
		return u.check(ok)
	case "numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer": // data, dtype, shape, order
		if len(args) != 4 {
			return errPickle
		}
		a := &array{}
		u.push(a)
		return a.set(args[2], args[1], args[3] == "F", args[0])
	}
	return fmt.Errorf("%w: it calls %q", errPickle, string(f))
}

func (a *array) set(shape, dtype any, fortran bool, data any) error {
	t, ok := shape.(tuple)
	name, ok2 := dtype.(string)
	if !ok || !ok2 {
		return errPickle
	}
	a.shape, a.dtype, a.fortran, a.data = nil, name, fortran, data
	for _, d := range t {
		n, ok := d.(int64)
		if !ok || n < 0 {
			return errPickle
		}
		a.shape = append(a.shape, n)
	}
	return nil
}
