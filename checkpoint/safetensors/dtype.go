package safetensors

import "fmt"

// DType is the element type of a tensor. The order of the constants is the
// order of the reference implementation, which sorts a file by it, largest
// first: so every tensor of a written file is aligned to its element.
type DType uint8

// The element types that this package reads and writes.
const (
	Bool DType = iota + 1 // one byte, 0 or 1
	U8
	I8
	I16
	F16 // IEEE 754 binary16
	BF16
	I32
	F32
	F64
	I64
)

var dtypes = [...]struct {
	name string
	size int64
}{
	Bool: {"BOOL", 1},
	U8:   {"U8", 1},
	I8:   {"I8", 1},
	I16:  {"I16", 2},
	F16:  {"F16", 2},
	BF16: {"BF16", 2},
	I32:  {"I32", 4},
	F32:  {"F32", 4},
	F64:  {"F64", 8},
	I64:  {"I64", 8},
}

func (d DType) valid() bool { return d >= Bool && int(d) < len(dtypes) }

// Size returns the bytes of one element, 0 for a value that is no DType.
func (d DType) Size() int64 {
	if !d.valid() {
		return 0
	}
	return dtypes[d].size
}

// String returns the name used in a header, such as "BF16".
func (d DType) String() string {
	if !d.valid() {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// ParseDType is the inverse of String.
func ParseDType(s string) (DType, bool) {
	for d := Bool; d.valid(); d++ {
		if dtypes[d].name == s {
			return d, true
		}
	}
	return 0, false
}
