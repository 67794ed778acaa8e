package tensor

import "fmt"

// DType is the type of a buffer's elements.
type DType uint8

// Element types.
const (
	F32  DType = iota // IEEE 754 binary32
	BF16              // the upper half of a binary32
	I64               // two's complement 64-bit integer
)

// Size is the number of bytes of one element.
func (d DType) Size() int {
	switch d {
	case F32:
		return 4
	case BF16:
		return 2
	case I64:
		return 8
	}
	panic("tensor: unknown dtype " + d.String())
}

// String names the type as safetensors does.
func (d DType) String() string {
	switch d {
	case F32:
		return "F32"
	case BF16:
		return "BF16"
	case I64:
		return "I64"
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}
