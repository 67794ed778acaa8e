package imagefile

import (
	"encoding/binary"
	"io"
)

// EXIF: a TIFF structure whose first directory may hold the orientation.
const (
	tagOrientation = 0x0112
	typeShort      = 3
	maxEXIF        = 1 << 20 // bytes of EXIF that are looked at
)

// orientation finds the orientation in the first directory of a TIFF structure;
// 1, upright, when there is none or it makes no sense.
//
//	1 upright   2 mirrored   3 turned by 180     4 mirrored and turned by 180
//	5 transposed   6 to be turned right   7 transversed   8 to be turned left
func orientation(r io.ReaderAt) int {
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return 1
	}
	var order binary.ByteOrder
	switch string(head[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	at := int64(order.Uint32(head[4:]))
	if _, err := r.ReadAt(head[:2], at); err != nil {
		return 1
	}
	var entry [12]byte // tag, type, count, value
	for i := range int64(order.Uint16(head[:2])) {
		if _, err := r.ReadAt(entry[:], at+2+12*i); err != nil {
			return 1
		}
		if order.Uint16(entry[:]) != tagOrientation {
			continue
		}
		v := int(order.Uint16(entry[8:]))
		if order.Uint16(entry[2:]) == typeShort && order.Uint32(entry[4:]) >= 1 && v >= 1 && v <= 8 {
			return v
		}
		return 1
	}
	return 1
}

// exifOf finds the EXIF block of a PNG, JPEG, WebP or TIFF file.
func exifOf(f Format, r io.ReaderAt, size int64) io.ReaderAt {
	switch f {
	case JPEG:
		return jpegEXIF(r, size)
	case PNG:
		return pngChunk(r, size, "eXIf")
	case WebP:
		at, n := riffChunk(r, size, "EXIF")
		// Some writers keep the marker of JPEG in front.
		var marker [6]byte
		if _, err := r.ReadAt(marker[:], at); err == nil && n > 6 && string(marker[:]) == "Exif\x00\x00" {
			at, n = at+6, n-6
		}
		return io.NewSectionReader(r, at, min(n, maxEXIF))
	case TIFF:
		return r
	case BMP, GIF:
	}
	return io.NewSectionReader(r, 0, 0)
}

// jpegEXIF finds the APP1 segment that begins with "Exif", before the scan.
func jpegEXIF(r io.ReaderAt, size int64) io.ReaderAt {
	var h [10]byte
	for at := int64(2); at+4 <= size; {
		n, _ := r.ReadAt(h[:], at) // a short read leaves too little below
		if n < 4 || h[0] != 0xff {
			break
		}
		marker := h[1]
		switch {
		case marker == 0xff: // fill
			at++
			continue
		case marker == 0xd8, marker == 0x01, marker >= 0xd0 && marker <= 0xd7: // no length
			at += 2
			continue
		case marker == 0xda, marker == 0xd9: // scan, end
			return io.NewSectionReader(r, 0, 0)
		}
		length := int64(binary.BigEndian.Uint16(h[2:]))
		if marker == 0xe1 && n == len(h) && string(h[4:10]) == "Exif\x00\x00" && length > 8 {
			return io.NewSectionReader(r, at+10, length-8)
		}
		at += 2 + max(length, 2)
	}
	return io.NewSectionReader(r, 0, 0)
}

// pngChunk finds the data of a chunk.
func pngChunk(r io.ReaderAt, size int64, name string) io.ReaderAt {
	at, n, _ := findPNGChunk(r, size, name)
	return io.NewSectionReader(r, at, min(n, maxEXIF))
}

// findPNGChunk walks the chunks, without reading their data.
func findPNGChunk(r io.ReaderAt, size int64, name string) (at, length int64, found bool) {
	var h [8]byte
	for at := int64(8); at+12 <= size; {
		if _, err := r.ReadAt(h[:], at); err != nil {
			break
		}
		length := int64(binary.BigEndian.Uint32(h[:]))
		if string(h[4:]) == name {
			return at + 8, length, at+12+length <= size
		}
		at += 12 + length
	}
	return 0, 0, false
}

// riffChunk finds the data of a chunk of a WebP file.
func riffChunk(r io.ReaderAt, size int64, name string) (at, length int64) {
	var h [8]byte
	for at := int64(12); at+8 <= size; {
		if _, err := r.ReadAt(h[:], at); err != nil {
			break
		}
		length := int64(binary.LittleEndian.Uint32(h[4:]))
		if string(h[:4]) == name {
			return at + 8, min(length, size-at-8)
		}
		at += 8 + length + length%2
	}
	return 0, 0
}
