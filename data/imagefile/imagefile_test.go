package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func encodePNG(tb testing.TB, m image.Image) []byte {
	tb.Helper()
	var out bytes.Buffer
	require.NoError(tb, png.Encode(&out, m))
	return out.Bytes()
}

// paint draws an image from a formula.
func paint(width, height int, f func(x, y int) color.NRGBA) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetNRGBA(x, y, f(x, y))
		}
	}
	return m
}

func flat(r, g, b, a uint8) func(x, y int) color.NRGBA {
	return func(_, _ int) color.NRGBA { return color.NRGBA{r, g, b, a} }
}

// storedAs is the gray picture 10 x + y of width x height as orientation o stores
// it, made by moving pixels to where EXIF's table says, not by the inverse that
// the reader uses: 1st row and 1st column of the stored picture are the named
// sides of the upright one.
func storedAs(o, width, height int) image.Image {
	row, column := [9]string{"", "top", "top", "bottom", "bottom", "left", "right", "right", "left"}[o],
		[9]string{"", "left", "right", "right", "left", "top", "top", "bottom", "bottom"}[o]
	size := image.Pt(width, height)
	if o >= 5 {
		size = image.Pt(height, width)
	}
	m := image.NewGray(image.Rect(0, 0, size.X, size.Y))
	from := func(side string, x, y int) int { // distance of an upright pixel from a side
		return map[string]int{"top": y, "bottom": height - 1 - y, "left": x, "right": width - 1 - x}[side]
	}
	for y := range height {
		for x := range width {
			m.SetGray(from(column, x, y), from(row, x, y), color.Gray{uint8(10*x + y)})
		}
	}
	return m
}

func square(text []byte, size, channels, maxPixels int) ([]byte, error) {
	m, h, err := Decode(text, maxPixels)
	if err != nil {
		return nil, err
	}
	return Square(m, h.Orientation, size, channels), nil
}

func TestSquare(t *testing.T) {
	gradient := func(x, y int) color.NRGBA { return color.NRGBA{uint8(10 * x), uint8(20 * y), 7, 255} }
	const all = 1 << 20

	// The size is right: the bytes are copied.
	got, err := square(encodePNG(t, paint(4, 4, gradient)), 4, 3, all)
	require.NoError(t, err)
	require.Len(t, got, 4*4*3)
	for i := range 16 {
		require.Equal(t, []byte{byte(10 * (i % 4)), byte(20 * (i / 4)), 7}, got[3*i:3*i+3])
	}
	// Too wide, too high: the middle stays.
	got, err = square(encodePNG(t, paint(10, 4, gradient)), 4, 3, all)
	require.NoError(t, err)
	require.Equal(t, []byte{30, 0, 7}, got[:3])
	got, err = square(encodePNG(t, paint(4, 9, gradient)), 4, 3, all)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 40, 7}, got[:3])
	// Half red, half blue, shrunk: sides keep their colours.
	halves := paint(64, 64, func(x, _ int) color.NRGBA {
		if x < 32 {
			return color.NRGBA{255, 0, 0, 255}
		}
		return color.NRGBA{0, 0, 255, 255}
	})
	got, err = square(encodePNG(t, halves), 8, 3, all)
	require.NoError(t, err)
	require.Equal(t, []byte{255, 0, 0}, got[:3])
	require.Equal(t, []byte{0, 0, 255}, got[7*3:8*3])
	// A fine checkerboard averages to gray: shrinking must not alias.
	board := paint(64, 64, func(x, y int) color.NRGBA { v := uint8(255 * ((x + y) % 2)); return color.NRGBA{v, v, v, 255} })
	got, err = square(encodePNG(t, board), 8, 1, all)
	require.NoError(t, err)
	require.Len(t, got, 64)
	for _, v := range got {
		require.InDelta(t, 127.5, v, 3)
	}
	// Transparent shows white, half transparent is half white.
	got, err = square(encodePNG(t, paint(4, 4, flat(0, 0, 0, 0))), 4, 3, all)
	require.NoError(t, err)
	require.Equal(t, []byte{255, 255, 255}, got[:3])
	got, err = square(encodePNG(t, paint(8, 8, flat(0, 0, 0, 128))), 4, 1, all)
	require.NoError(t, err)
	require.InDelta(t, 127, got[5], 1)
	// With an alpha channel colours stay what they are, also where nobody sees them.
	shades := func(x, y int) color.NRGBA { return color.NRGBA{uint8(10 * x), uint8(20 * y), 7, uint8(80 * x)} }
	got, err = square(encodePNG(t, paint(4, 4, shades)), 4, 4, all)
	require.NoError(t, err)
	for i := range 16 {
		x, y := i%4, i/4
		require.Equal(t, []byte{byte(10 * x), byte(20 * y), 7, byte(80 * x)}, got[4*i:4*i+4])
	}
	got, err = square(encodePNG(t, paint(3, 3, flat(90, 90, 90, 40))), 3, 2, all)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{90, 40}, 9), got)
	got, err = square(encodePNG(t, paint(64, 64, flat(200, 100, 50, 128))), 8, 4, all)
	require.NoError(t, err)
	for i, want := range []byte{200, 100, 50, 128} {
		require.InDelta(t, want, got[4*27+i], 2, "scaled")
	}
	// Gray stays as it is, from every source; colours go to their luma.
	gray := image.NewGray(image.Rect(0, 0, 2, 2))
	copy(gray.Pix, []byte{0, 77, 200, 255})
	got, err = square(encodePNG(t, gray), 2, 1, all)
	require.NoError(t, err)
	require.Equal(t, gray.Pix, got)
	got, err = square(encodePNG(t, paint(2, 2, flat(255, 0, 0, 255))), 2, 1, all)
	require.NoError(t, err)
	require.InDelta(t, 0.299*255, got[0], 0.5)
	// A frame that is smaller than its animation lies where it belongs.
	got, err = square(file(t, "offset.gif"), 8, 3, all) // the middle 8 of 12 columns
	require.NoError(t, err)
	require.Equal(t, []byte{255, 255, 255}, got[(2*8+2)*3:(2*8+2)*3+3])
	require.Equal(t, []byte{200, 30, 60}, got[(2*8+3)*3:(2*8+3)*3+3])
	require.Equal(t, []byte{200, 30, 60}, got[(4*8+6)*3:(4*8+6)*3+3])
	require.Equal(t, []byte{255, 255, 255}, got[(5*8+6)*3:(5*8+6)*3+3])
}

// Files that cannot be used, by kind.
func TestFaults(t *testing.T) {
	good, photo := encodePNG(t, paint(20, 10, flat(1, 2, 3, 255))), file(t, "baseline.jpg")
	with := func(text []byte, at int, v byte) []byte {
		text = bytes.Clone(text)
		text[at] = v
		return text
	}
	flipped := func(text []byte, at int) []byte { return with(text, at, text[at]^0x40) }
	for name, c := range map[string]struct {
		text  []byte
		fault Fault
		want  string
	}{
		"nothing":               {nil, Empty, "empty"},
		"one byte":              {[]byte{0x89}, NotRead, "no image format that is known"},
		"half a PNG":            {good[:len(good)/2], Damaged, "PNG that ends early"},
		"PNG header only":       {good[:33], Damaged, "PNG that ends early"},
		"PNG signature only":    {good[:8], Damaged, "PNG that ends early"},
		"PNG chunk CRC":         {flipped(good, 45), Damaged, "PNG"},
		"PNG header CRC":        {flipped(good, 30), Damaged, "invalid checksum"},
		"bad zlib checksum":     {flipped(good, len(good)-12-5), Damaged, "checksum"},
		"half a JPEG":           {photo[:len(photo)-80], Damaged, "JPEG"},
		"JPEG without scan":     {photo[:400], Damaged, "JPEG that ends early"},
		"JPEG marker only":      {[]byte("\xff\xd8"), Damaged, "JPEG that ends early"},
		"JPEG end only":         {[]byte("\xff\xd8\xff\xd9"), Damaged, "JPEG"},
		"half a GIF":            {file(t, "still.gif")[:60], Damaged, "GIF"},
		"half a WebP":           {file(t, "lossy.webp")[:60], Damaged, "WebP"},
		"half a BMP":            {file(t, "rgb.bmp")[:100], Damaged, "BMP"},
		"half a TIFF":           {file(t, "raw.tiff")[:100], Damaged, "TIFF"},
		"animated without one":  {file(t, "anim.webp")[:50], Damaged, "WebP"},
		"too many pixels":       {encodePNG(t, image.NewGray(image.Rect(0, 0, 400, 1001))), TooLarge, "400 x 1001 pixels are more than the 400000 that are read"},
		"HEIC":                  {[]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"), NotRead, "HEIC"},
		"AVIF":                  {[]byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avif"), NotRead, "AVIF"},
		"SVG":                   {[]byte("<?xml version=\"1.0\"?>\n<svg xmlns='http://www.w3.org/2000/svg'/>"), NotRead, "SVG"},
		"HTML":                  {[]byte("\n<!DOCTYPE HTML><title>404</title>"), NotRead, "HTML page"},
		"git lfs":               {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:0"), NotRead, "git lfs pull"},
		"netpbm":                {[]byte("P6\n2 2\n255\n000000000000"), NotRead, "Netpbm"},
		"RLE BMP":               {with(file(t, "palette.bmp"), 30, 1), NotRead, "BMP of a kind"},
		"zeros":                 {make([]byte, 1000), NotRead, "no image format"},
		"text that begins BM":   {[]byte("BMW is a car, not an image"), NotRead, "no image format"},
		"arithmetic-coded JPEG": {bytes.Replace(photo, []byte("\xff\xc0"), []byte("\xff\xc9"), 1), NotRead, "JPEG of a kind that is not read"},
		"12-bit JPEG":           {bytes.Replace(photo, []byte("\xff\xc0\x00\x11\x08"), []byte("\xff\xc0\x00\x11\x0c"), 1), NotRead, "precision"},
		"JPEG of no size":       {bytes.Replace(photo, []byte("\xff\xc0\x00\x11\x08\x00\x08\x00\x0c"), []byte("\xff\xc0\x00\x11\x08\x00\x08\x00\x00"), 1), Damaged, "8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Decode(c.text, 400_000)
			var bad *Error
			require.ErrorAs(t, err, &bad)
			require.Equal(t, c.fault, bad.Fault, bad.Detail)
			require.Contains(t, bad.Detail, c.want)
			require.NotContains(t, bad.Detail, "\n")
		})
	}
	_, err := square(good, 4, 3, 199)
	require.ErrorContains(t, err, "20 x 10 pixels are more than the 199 that are read")
	_, err = square(good, 4, 3, 200)
	require.NoError(t, err)
	for cut := range len(good) - 12 { // all but the empty end chunk
		_, err = square(good[:cut], 4, 3, 1000)
		require.Error(t, err, "cut to %d of %d", cut, len(good))
	}
}

// A JPEG file whose rows are all there is read without its end marker, as Pillow
// reads it, and with bytes after it; one that lacks rows is damaged.
func TestJPEGEnds(t *testing.T) {
	for _, name := range []string{"baseline.jpg", "gray.jpg", "restart.jpg", "progressive.jpg"} {
		whole := file(t, name)
		require.True(t, Complete(JPEG, bytes.NewReader(whole), int64(len(whole))))
		want, err := square(whole, 8, 3, 1000)
		require.NoError(t, err)
		for end, text := range map[string][]byte{
			"no marker": whole[:len(whole)-2], "half a marker": whole[:len(whole)-1], "more": append(bytes.Clone(whole), "trailing"...),
		} {
			got, err := square(text, 8, 3, 1000)
			require.NoError(t, err, "%s: %s", name, end)
			require.Equal(t, want, got)
			require.False(t, Complete(JPEG, bytes.NewReader(text), int64(len(text))), "%s needs a look", end)
		}
	}
	large := paint(64, 64, func(x, y int) color.NRGBA { return color.NRGBA{uint8(x * y), uint8(7 * x), uint8(11 * y), 255} })
	var out bytes.Buffer
	require.NoError(t, jpeg.Encode(&out, large, nil))
	for cut := 10; cut < out.Len()-700; cut += 40 {
		_, err := square(out.Bytes()[:out.Len()-cut], 8, 3, 10_000)
		require.Error(t, err, "%d bytes are missing", cut)
	}
}

func TestComplete(t *testing.T) {
	good := file(t, "png-rgb.png")
	for cut := range len(good) {
		require.False(t, Complete(PNG, bytes.NewReader(good[:cut]), int64(cut)), cut)
	}
	require.True(t, Complete(PNG, bytes.NewReader(good), int64(len(good))))
	require.True(t, Complete(GIF, bytes.NewReader(nil), 0))
}

// A header is read without reading the file: what is between is passed over.
func TestHeaderReadsLittle(t *testing.T) {
	var chunk bytes.Buffer // 8 MiB of text before the pixels
	text := append([]byte("tEXt"), make([]byte, 8<<20)...)
	_ = binary.Write(&chunk, binary.BigEndian, uint32(len(text)-4))
	chunk.Write(text)
	_ = binary.Write(&chunk, binary.BigEndian, crc32.ChecksumIEEE(text))
	good := file(t, "exif6.png")
	iend := len(good) - 12
	long := append(append(bytes.Clone(good[:iend]), chunk.Bytes()...), good[iend:]...)
	r := &counting{r: bytes.NewReader(long)}
	h, err := ReadHeader(r, int64(len(long)))
	require.NoError(t, err)
	require.Equal(t, 6, h.Orientation)
	require.True(t, Complete(PNG, r, int64(len(long))))
	require.Less(t, r.bytes, 16<<10)
}

type counting struct {
	r     io.ReaderAt
	bytes int
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	c.bytes += len(p)
	return c.r.ReadAt(p, at)
}

// What the disk says is not the file's fault.
func TestReadFailure(t *testing.T) {
	errDisk := errors.New("input/output error")
	_, err := ReadHeader(broken{errDisk}, 1000)
	require.ErrorIs(t, err, errDisk)
	var bad *Error
	require.NotErrorAs(t, err, &bad)
	for _, name := range []string{"png-rgb.png", "baseline.jpg", "lossy.webp", "rgb.bmp", "still.gif", "raw.tiff", "anim.webp"} {
		text := file(t, name)
		_, err = readHeader(broken{errDisk}, int64(len(text)), map[byte]Format{'p': PNG, 'b': JPEG, 'l': WebP, 's': GIF}[name[0]])
		require.ErrorIs(t, err, errDisk, name)
	}
}

type broken struct{ err error }

func (b broken) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func FuzzDecode(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	require.NoError(f, err)
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && !strings.HasSuffix(name, ".py") && !strings.HasSuffix(name, ".json") {
			f.Add(file(f, name))
		}
	}
	f.Add(encodePNG(f, image.NewPaletted(image.Rect(0, 0, 3, 3), color.Palette{color.Black, color.Transparent})))
	f.Add(encodePNG(f, image.NewGray16(image.Rect(0, 0, 2, 9))))
	f.Fuzz(func(t *testing.T, text []byte) {
		header, headerErr := ReadHeader(bytes.NewReader(text), int64(len(text)))
		m, h, err := Decode(text, 1<<12)
		if err != nil {
			var bad *Error
			require.ErrorAs(t, err, &bad)
			require.NotEmpty(t, bad.Fault)
			return
		}
		require.NoError(t, headerErr)
		require.Equal(t, header, h)
		require.LessOrEqual(t, h.Width*h.Height, 1<<12)
		for _, channels := range []int{1, 2, 3, 4} {
			require.Len(t, Square(m, h.Orientation, 4, channels), 16*channels)
		}
	})
}

func FuzzOrientation(f *testing.F) {
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"))
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12\x00\x03\x00\x00\x00\x01\x00\x08\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		o := orientation(bytes.NewReader(text))
		require.True(t, o >= 1 && o <= 8)
	})
}
