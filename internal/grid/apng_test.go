package grid

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// frame is what a reader of the format finds.
type frame struct {
	control []byte
	image   image.Image
}

// read takes an APNG apart and decodes each frame as a PNG of its own.
func read(t *testing.T, b []byte) (still image.Image, plays uint32, frames []frame) {
	t.Helper()
	still, err := png.Decode(bytes.NewReader(b))
	require.NoError(t, err, "what does not know animations reads one image")
	var head []byte
	var control []byte
	next := uint32(0)
	announced := uint32(0)
	rest := b[8:]
	for len(rest) > 0 {
		size := binary.BigEndian.Uint32(rest)
		kind, body := string(rest[4:8]), rest[8:8+size]
		require.Equal(t, crc32.ChecksumIEEE(rest[4:8+size]), binary.BigEndian.Uint32(rest[8+size:]))
		rest = rest[12+size:]
		switch kind {
		case "IHDR":
			head = body
		case "acTL":
			announced, plays = binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
		case "fcTL":
			require.Equal(t, next, binary.BigEndian.Uint32(body), "one sequence over both kinds of chunks")
			next++
			require.Len(t, body, 26)
			control = body
		case "fdAT":
			require.Equal(t, next, binary.BigEndian.Uint32(body))
			next++
			var one bytes.Buffer
			c := chunks{w: &one}
			c.raw([]byte(pngSignature))
			c.chunk("IHDR", head)
			c.chunk("IDAT", body[4:])
			c.chunk("IEND", nil)
			m, err := png.Decode(&one)
			require.NoError(t, err)
			frames = append(frames, frame{control, m})
		}
	}
	require.Len(t, frames, int(announced))
	return still, plays, frames
}

func TestAnimation(t *testing.T) {
	for _, channels := range []int{1, 2, 3, 4, 5} {
		var a Animation
		o := Options{Columns: 2, Scale: 1}
		var want []image.Image
		for k := range 3 {
			images := make([]float32, 2*3*3*channels)
			for i := range images {
				images[i] = float32(k)/2 - float32(i%5)/5
			}
			require.NoError(t, a.Add(images, 2, 3, 3, channels, o, time.Duration(k+1)*100*time.Millisecond))
			want = append(want, render(t, images, 2, 3, 3, channels, o))
		}
		require.ErrorContains(t, a.Add(make([]float32, 9*channels), 1, 3, 3, channels, o, 0), "one size")
		var out, again bytes.Buffer
		require.NoError(t, a.Write(&out))
		require.NoError(t, a.Write(&again))
		require.Equal(t, out.Bytes(), again.Bytes())
		still, plays, frames := read(t, out.Bytes())
		require.Zero(t, plays, "for ever")
		require.Equal(t, want[2], still)
		require.Len(t, frames, 3)
		for k, f := range frames {
			require.Equal(t, want[k], f.image)
			size := f.image.Bounds().Size()
			require.Equal(t, uint32(size.X), binary.BigEndian.Uint32(f.control[4:]))
			require.Equal(t, uint32(size.Y), binary.BigEndian.Uint32(f.control[8:]))
			require.Equal(t, uint16(100*(k+1)), binary.BigEndian.Uint16(f.control[20:]))
			require.Equal(t, uint16(1000), binary.BigEndian.Uint16(f.control[22:]))
		}
	}
	require.ErrorContains(t, new(Animation).Write(&bytes.Buffer{}), "without frames")
}
