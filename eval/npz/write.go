package npz

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// Float64s is an array to write, in row-major order.
type Float64s struct {
	Name  string
	Shape []int
	Data  []float64
}

// Write writes an archive of little-endian float64 arrays, uncompressed as
// numpy.savez does. Equal arrays give equal bytes.
func Write(w io.Writer, arrays ...Float64s) error {
	z := zip.NewWriter(w)
	for _, a := range arrays {
		n := 1
		for _, d := range a.Shape {
			n *= d
		}
		if n != len(a.Data) {
			panic(fmt.Sprintf("npz: %d values for shape %v", len(a.Data), a.Shape))
		}
		entry, err := z.CreateHeader(&zip.FileHeader{Name: a.Name + ".npy", Method: zip.Store})
		if err != nil {
			return fmt.Errorf("npz: %w", err)
		}
		b := bufio.NewWriter(entry)
		_, _ = b.Write(header("<f8", a.Shape)) // an error stays with b until Flush
		var bytes [8]byte
		for _, v := range a.Data {
			binary.LittleEndian.PutUint64(bytes[:], math.Float64bits(v))
			_, _ = b.Write(bytes[:])
		}
		if err := b.Flush(); err != nil {
			return fmt.Errorf("npz: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("npz: %w", err)
	}
	return nil
}

// header is magic, version 1.0 and the dictionary, padded to a multiple of 64 bytes.
func header(descr string, shape []int) []byte {
	var dims strings.Builder
	for i, d := range shape {
		if i > 0 {
			dims.WriteString(" ")
		}
		fmt.Fprintf(&dims, "%d,", d)
	}
	list := dims.String()
	if len(shape) != 1 { // Python writes (3,) and (3, 4)
		list = strings.TrimSuffix(list, ",")
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, list)
	pad := 63 - (10+len(text))%64
	text += strings.Repeat(" ", pad) + "\n"
	out := append([]byte("\x93NUMPY\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(out[8:], uint16(len(text)))
	return append(out, text...)
}
