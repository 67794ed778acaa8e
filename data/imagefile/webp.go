package imagefile

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"
)

// golang.org/x/image/webp reads still images only. An animation (VP8X with its
// animation bit, an ANIM chunk, ANMF chunks) becomes one by making a file of its
// first frame's chunks.

const (
	webpAnimation = 1 << 1 // flags of VP8X
	webpAlpha     = 1 << 4
	anmfHeader    = 16 // x/2, y/2, width-1, height-1 (3 bytes each), duration, flags
	maxFrame      = 1 << 28
)

// stillWebP returns s itself, or the first frame of an animation as a file.
func stillWebP(s source) (still source, animated bool, err error) {
	at, n := riffChunk(s, s.size, "VP8X")
	var flags [1]byte
	if n < 10 {
		return s, false, nil
	}
	if _, err := s.ReadAt(flags[:], at); err != nil || flags[0]&webpAnimation == 0 {
		return s, false, nil //nolint:nilerr // the decoder says what is wrong with it
	}
	at, n = riffChunk(s, s.size, "ANMF")
	if n <= anmfHeader || n > maxFrame {
		return s, true, fault(Damaged, "WebP: an animation without a frame")
	}
	frame := make([]byte, n)
	if k, err := s.ReadAt(frame, at); int64(k) < n {
		return s, true, err
	}
	width, height, chunks := frame[6:9], frame[9:12], frame[anmfHeader:]
	var file bytes.Buffer
	file.WriteString("RIFF\x00\x00\x00\x00WEBP")
	if bytes.HasPrefix(chunks, []byte("ALPH")) { // alpha is allowed in extended files only
		file.WriteString("VP8X\x0a\x00\x00\x00")
		file.Write([]byte{webpAlpha, 0, 0, 0})
		file.Write(width)
		file.Write(height)
	}
	file.Write(chunks)
	binary.LittleEndian.PutUint32(file.Bytes()[4:], uint32(file.Len()-8))
	return source{bytes.NewReader(file.Bytes()), int64(file.Len())}, true, nil
}

// webpCanvas is the size that VP8X gives.
func webpCanvas(s source) (width, height int) {
	at, _ := riffChunk(s, s.size, "VP8X")
	var b [10]byte
	if _, err := s.ReadAt(b[:], at); err != nil {
		return 1, 1
	}
	return 1 + uint24(b[4:]), 1 + uint24(b[7:])
}

// webpFrameOffset is where the first frame lies on the canvas.
func webpFrameOffset(r io.ReaderAt) image.Point {
	at, _ := riffChunk(r, 1<<62, "ANMF")
	var b [6]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return image.Point{}
	}
	return image.Pt(2*uint24(b[:]), 2*uint24(b[3:]))
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
