package grid

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image/png"
	"io"
	"time"
)

// Animation is a PNG of several frames (APNG, in the PNG specification since its third
// edition): viewers that do not know it show the last frame. Frames of one size are added
// one after another; their compressed bytes are held until Write.
type Animation struct {
	head   []byte   // IHDR
	frames [][]byte // IDAT data
	delays []uint16 // milliseconds
}

// Add draws images as Write does and adds the drawing, which is shown for that long, in
// milliseconds up to 65 s.
func (a *Animation) Add(images []float32, n, height, width, channels int, o Options, shown time.Duration) error {
	m, err := draw(images, n, height, width, channels, o)
	if err != nil {
		return err
	}
	var one bytes.Buffer
	if err := png.Encode(&one, m); err != nil {
		return fmt.Errorf("grid: %w", err)
	}
	var head, data []byte
	for rest := one.Bytes()[len(pngSignature):]; len(rest) > 0; {
		size := binary.BigEndian.Uint32(rest)
		kind, body := string(rest[4:8]), rest[8:8+size]
		switch kind {
		case "IHDR":
			head = body
		case "IDAT":
			data = append(data, body...)
		}
		rest = rest[12+size:]
	}
	if a.head != nil && !bytes.Equal(a.head, head) {
		return errors.New("grid: the frames of an animation have one size")
	}
	a.head, a.frames = head, append(a.frames, data)
	a.delays = append(a.delays, uint16(min(max(shown.Milliseconds(), 0), 1<<16-1)))
	return nil
}

const pngSignature = "\x89PNG\r\n\x1a\n"

// Write writes the animation, which repeats for ever.
func (a *Animation) Write(w io.Writer) error {
	if len(a.frames) == 0 {
		return errors.New("grid: an animation without frames")
	}
	c := chunks{w: w}
	c.raw([]byte(pngSignature))
	c.chunk("IHDR", a.head)
	c.chunk("acTL", binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(a.frames))), 0))
	c.chunk("IDAT", a.frames[len(a.frames)-1]) // without an fcTL before it: not a frame
	sequence := uint32(0)
	for i, data := range a.frames {
		control := binary.BigEndian.AppendUint32(nil, sequence)
		control = append(control, a.head[:8]...)      // width and height
		control = append(control, make([]byte, 8)...) // at the origin
		control = binary.BigEndian.AppendUint16(control, a.delays[i])
		control = binary.BigEndian.AppendUint16(control, 1000)
		c.chunk("fcTL", append(control, 0, 0)) // leave it there, replace what is below
		c.chunk("fdAT", append(binary.BigEndian.AppendUint32(nil, sequence+1), data...))
		sequence += 2
	}
	c.chunk("IEND", nil)
	if c.err != nil {
		return fmt.Errorf("grid: %w", c.err)
	}
	return nil
}

// WriteFile is Write to a file, whole or not at all, as the function WriteFile.
func (a *Animation) WriteFile(path string) error { return whole(path, a.Write) }

// chunks writes a PNG's chunks until the first error.
type chunks struct {
	w   io.Writer
	err error
}

func (c *chunks) raw(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

func (c *chunks) chunk(kind string, body []byte) {
	c.raw(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
	named := append([]byte(kind), body...)
	c.raw(named)
	c.raw(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(named)))
}
