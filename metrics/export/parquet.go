package export

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/agrdist/agrdist/metrics"
)

// Parquet is written by hand: the Go library for it adds 15 MB to a binary, for one table
// of numbers. The file is what every reader knows (parquet.apache.org/docs/file-format):
// one row group, a data page of version 1 for each column, plain encoding, no compression.
//
//	"PAR1"  page of column 0  page of column 1 ...  FileMetaData  its length (4 bytes)  "PAR1"
//
// A page is a PageHeader, then for a column with gaps its definition levels (run lengths),
// then the values. Headers and metadata are Thrift in its compact protocol.

// Types, encodings and repetitions, as parquet.thrift numbers them.
const (
	typeInt64  = 2
	typeDouble = 5

	required = 0
	optional = 1

	encodingPlain = 0
	encodingRLE   = 3

	timestampMillis = 9 // ConvertedType: int64 milliseconds since 1970, UTC
)

// column is a column of the table: of int64, or of double with gaps.
type column struct {
	name      string
	timestamp bool
	ints      []int64
	floats    []*float64
}

func (c column) kind() (typ, repetition int32) {
	if c.floats != nil {
		return typeDouble, optional
	}
	return typeInt64, required
}

// Parquet writes the step events as a Parquet file.
func Parquet(w io.Writer, events []metrics.Event) error {
	columns, rows := table(events)
	out := []byte("PAR1")
	type chunk struct{ at, size int }
	var chunks []chunk
	for _, c := range columns {
		at := len(out)
		body := c.page(rows)
		out = append(append(out, pageHeader(rows, len(body))...), body...)
		chunks = append(chunks, chunk{at, len(out) - at})
	}
	var t thrift
	t.i32(1, 1) // version
	t.list(2, thriftStruct, len(columns)+1)
	t.element(func() {
		t.text(4, "steps")
		t.i32(5, int32(len(columns)))
	})
	for _, c := range columns {
		typ, repetition := c.kind()
		t.element(func() {
			t.i32(1, typ)
			t.i32(3, repetition)
			t.text(4, c.name)
			if c.timestamp {
				t.i32(6, timestampMillis)
			}
		})
	}
	t.i64(3, int64(rows))
	t.list(4, thriftStruct, 1)
	t.element(func() { // the row group
		t.list(1, thriftStruct, len(columns))
		for i, c := range columns {
			typ, _ := c.kind()
			t.element(func() {
				t.i64(2, int64(chunks[i].at))
				t.inner(3, func() {
					t.i32(1, typ)
					t.list(2, thriftI32, 2)
					t.zigzag(encodingPlain)
					t.zigzag(encodingRLE)
					t.list(3, thriftBinary, 1)
					t.bytes(c.name)
					t.i32(4, 0) // uncompressed
					t.i64(5, int64(rows))
					t.i64(6, int64(chunks[i].size))
					t.i64(7, int64(chunks[i].size))
					t.i64(9, int64(chunks[i].at))
				})
			})
		}
		t.i64(2, int64(len(out)-4))
		t.i64(3, int64(rows))
	})
	t.text(6, "agrdist")
	t.stop()
	out = append(out, t.out...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(t.out)))
	_, err := w.Write(append(out, "PAR1"...))
	return err //nolint:wrapcheck // the writer's own
}

// table makes columns of the step events.
func table(events []metrics.Event) (columns []column, rows int) {
	steps := stepsOf(events)
	number := func(name string, value func(e metrics.Event) int64) column {
		c := column{name: name, ints: make([]int64, 0, len(steps))}
		for _, e := range steps {
			c.ints = append(c.ints, value(e))
		}
		return c
	}
	at := number("time", func(e metrics.Event) int64 { return e.When().UnixMilli() })
	at.timestamp = true
	columns = append(columns, number("step", func(e metrics.Event) int64 { return e.Step }), at)
	for _, m := range metrics.Columns {
		c := column{name: m.Name, floats: make([]*float64, 0, len(steps))}
		for _, e := range steps {
			c.floats = append(c.floats, m.Value(e))
		}
		columns = append(columns, c)
	}
	return append(columns,
		number("world_size", func(e metrics.Event) int64 { return int64(e.WorldSize) }),
		number("generation", func(e metrics.Event) int64 { return int64(e.Generation) }),
	), len(steps)
}

// page is the content of a column's data page.
func (c column) page(rows int) (out []byte) {
	if c.floats == nil {
		for _, x := range c.ints {
			out = binary.LittleEndian.AppendUint64(out, uint64(x))
		}
		return out
	}
	var levels []byte // runs of: present, not present
	for lo := 0; lo < rows; {
		hi := lo
		for hi < rows && (c.floats[hi] != nil) == (c.floats[lo] != nil) {
			hi++
		}
		levels = binary.AppendUvarint(levels, uint64(hi-lo)<<1)
		present := byte(0)
		if c.floats[lo] != nil {
			present = 1
		}
		levels = append(levels, present)
		lo = hi
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(levels)))
	out = append(out, levels...)
	for _, x := range c.floats {
		if x != nil {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(*x))
		}
	}
	return out
}

func pageHeader(rows, size int) []byte {
	var t thrift
	t.i32(1, 0) // a data page
	t.i32(2, int32(size))
	t.i32(3, int32(size))
	t.inner(5, func() {
		t.i32(1, int32(rows))
		t.i32(2, encodingPlain)
		t.i32(3, encodingRLE)
		t.i32(4, encodingRLE)
	})
	t.stop()
	return t.out
}

// Types of Thrift's compact protocol.
const (
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

// thrift writes a struct in the compact protocol.
type thrift struct {
	out  []byte
	last int // number of the field before, in the innermost struct
}

func (t *thrift) field(id, typ int) {
	t.out = append(t.out, byte((id-t.last)<<4|typ)) // fields are less than 16 apart
	t.last = id
}

func (t *thrift) zigzag(x int64) { t.out = binary.AppendVarint(t.out, x) }

func (t *thrift) i32(id int, x int32) {
	t.field(id, thriftI32)
	t.zigzag(int64(x))
}

func (t *thrift) i64(id int, x int64) {
	t.field(id, thriftI64)
	t.zigzag(x)
}

func (t *thrift) bytes(s string) {
	t.out = append(binary.AppendUvarint(t.out, uint64(len(s))), s...)
}

func (t *thrift) text(id int, s string) {
	t.field(id, thriftBinary)
	t.bytes(s)
}

func (t *thrift) list(id, typ, n int) {
	t.field(id, thriftList)
	if n < 15 {
		t.out = append(t.out, byte(n<<4|typ))
		return
	}
	t.out = binary.AppendUvarint(append(t.out, byte(0xf0|typ)), uint64(n))
}

// element writes a struct of a list.
func (t *thrift) element(fields func()) {
	outer := t.last
	t.last = 0
	fields()
	t.stop()
	t.last = outer
}

func (t *thrift) inner(id int, fields func()) {
	t.field(id, thriftStruct)
	t.element(fields)
}

func (t *thrift) stop() { t.out = append(t.out, 0) }
