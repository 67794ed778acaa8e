package mesh

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// littleEndian: this machine's floats lie in memory as they travel.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// bytesOf views floats as bytes, in the machine's byte order.
func bytesOf(f []float32) []byte {
	if len(f) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&f[0])), len(f)*4)
}

// u16 and u32 narrow ranks, parts, segments and lengths for the wire; all are
// bounded long before (MaxWorld, MaxChunks, maxSegBytes).
func u16(n int) uint16 { return uint16(n) }
func u32(n int) uint32 { return uint32(n) }

// toWire returns floats in wire order: the view of them on a little endian
// machine, else a swapped copy in scratch, which grows as needed.
func toWire(f []float32, scratch *[]float32, native bool) []byte {
	if native {
		return bytesOf(f)
	}
	*scratch = append((*scratch)[:0], f...)
	swap(*scratch)
	return bytesOf(*scratch)
}

// fromWire turns floats that were received as bytes into the machine's order.
func fromWire(f []float32, native bool) {
	if !native {
		swap(f)
	}
}

func swap(f []float32) {
	b := bytesOf(f)
	for ; len(b) >= 4; b = b[4:] {
		binary.LittleEndian.PutUint32(b, bits.ReverseBytes32(binary.LittleEndian.Uint32(b)))
	}
}
