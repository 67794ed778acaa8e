package grid

import (
	"bufio"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

const (
	// targetWidth is what small images are enlarged to, in pixels.
	targetWidth = 600
	// maxSide bounds the drawing, height and width.
	maxSide = 1 << 15
	// gapGray is the colour between images: neither the black that digits stand
	// on nor the white of drawings.
	gapGray = 0x80
)

// Options is the layout. The zero value is a square of images with a gap of 4
// pixels, enlarged to a width of about 600.
type Options struct {
	Columns int // images in a row; 0: the square root of their number, rounded up
	Gap     int // pixels between images and around them; 0: 4; negative: none
	Scale   int // pixels of the drawing for one of an image; 0: as many as fit into 600
}

// resolve fills in the automatic values and returns the drawing's size.
func (o Options) resolve(n, height, width int) (resolved Options, drawing image.Point, err error) {
	if o.Columns < 0 || o.Scale < 0 {
		return o, drawing, fmt.Errorf("grid: %d columns at scale %d; both must be 0 (automatic) or more", o.Columns, o.Scale)
	}
	if o.Columns == 0 {
		o.Columns = int(math.Ceil(math.Sqrt(float64(n))))
	}
	o.Columns = min(o.Columns, n)
	switch {
	case o.Gap == 0:
		o.Gap = 4
	case o.Gap < 0:
		o.Gap = 0
	}
	// Bounds first: the products below must not overflow.
	if o.Gap > maxSide || o.Scale > maxSide || height > maxSide || width > maxSide || n > maxSide*maxSide {
		return o, drawing, fmt.Errorf("grid: %d images of %d x %d at scale %d with a gap of %d do not fit into a drawing of %d x %d",
			n, height, width, o.Scale, o.Gap, maxSide, maxSide)
	}
	if o.Scale == 0 {
		o.Scale = max(1, (targetWidth-(o.Columns+1)*o.Gap)/(o.Columns*width))
	}
	rows := (n + o.Columns - 1) / o.Columns
	drawing = image.Pt(o.Columns*(width*o.Scale+o.Gap)+o.Gap, rows*(height*o.Scale+o.Gap)+o.Gap)
	if drawing.X > maxSide || drawing.Y > maxSide {
		return o, drawing, fmt.Errorf("grid: the drawing has %d x %d pixels; it may have %d x %d: draw fewer images", drawing.X, drawing.Y, maxSide, maxSide)
	}
	return o, drawing, nil
}

// Byte is a value in [-1, 1] as a byte, clipped; false for one that is not a number.
func Byte(x float32) (uint8, bool) {
	v := float64(x)
	if math.IsNaN(v) {
		return 0, false
	}
	return uint8(math.Round((min(max(v, -1), 1) + 1) * 127.5)), true
}

// Bytes is the memory that a drawing of so many images takes, or why there can be none.
func Bytes(n, height, width, channels int, o Options) (int64, error) {
	_, drawing, err := o.resolve(n, height, width*planes(channels))
	if err != nil {
		return 0, err
	}
	each := int64(4)
	if channels == 1 || channels > 4 {
		each = 1
	}
	return int64(drawing.X) * int64(drawing.Y) * each, nil
}

// Write writes images, [n, height, width, channels] in [-1, 1], to w as a PNG:
// gray for one channel, gray with alpha for two, RGB for three, RGBA for four (colours
// are not multiplied by alpha). An image of more channels is drawn as so many gray ones
// beside one another. Values outside are clipped; a value that is not a number is an
// error that names the image.
func Write(w io.Writer, images []float32, n, height, width, channels int, o Options) error {
	m, err := draw(images, n, height, width, channels, o)
	if err != nil {
		return err
	}
	if err := png.Encode(w, m); err != nil {
		return fmt.Errorf("grid: %w", err)
	}
	return nil
}

// WriteFile is Write to a file, whole or not at all: the drawing goes to a
// temporary file beside it, which then takes its name. The directory must
// exist.
func WriteFile(path string, images []float32, n, height, width, channels int, o Options) error {
	return whole(path, func(w io.Writer) error { return Write(w, images, n, height, width, channels, o) })
}

// whole writes a file whole or not at all.
func whole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("grid: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	buffer := bufio.NewWriter(f)
	if err := write(buffer); err != nil {
		return err
	}
	for _, step := range []func() error{
		buffer.Flush,
		func() error { return f.Chmod(0o644) }, // CreateTemp's 0600 hides it from the web server beside us
		f.Sync,
		f.Close,
		func() error { return os.Rename(f.Name(), path) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("grid: %w", err)
		}
	}
	return nil
}

// draw lays the images out.
func draw(images []float32, n, height, width, channels int, o Options) (image.Image, error) {
	if n < 1 || height < 1 || width < 1 || channels < 1 {
		return nil, fmt.Errorf("grid: %d images of %d x %d with %d channels; there must be at least one", n, height, width, channels)
	}
	size := height * width * channels
	if len(images) != n*size {
		return nil, fmt.Errorf("grid: %d values for %d images of %d x %d x %d", len(images), n, height, width, channels)
	}
	if beside := planes(channels); beside > 1 {
		images, width, channels = split(images, width, channels), width*beside, 1
	}
	o, drawing, err := o.resolve(n, height, width)
	if err != nil {
		return nil, err
	}
	c := newCanvas(drawing, channels)
	for i := range n {
		corner := image.Pt(o.Gap+i%o.Columns*(width*o.Scale+o.Gap), o.Gap+i/o.Columns*(height*o.Scale+o.Gap))
		if !c.paste(corner, images[i*size:(i+1)*size], width, channels, o.Scale) {
			return nil, fmt.Errorf("grid: image %d has a value that is not a number", i)
		}
	}
	if channels == 2 || channels == 4 {
		// Every drawing of a run has the same form, also one that is opaque.
		return translucent{c.image}, nil
	}
	return c.image, nil
}

// planes is how many gray images an image is drawn as: a PNG has at most four channels.
func planes(channels int) int {
	if channels > 4 {
		return channels
	}
	return 1
}

// split puts the channels of each row beside one another.
func split(images []float32, width, channels int) []float32 {
	out := make([]float32, 0, len(images))
	for row := range slices.Chunk(images, width*channels) {
		for k := range channels {
			for x := range width {
				out = append(out, row[x*channels+k])
			}
		}
	}
	return out
}

// translucent is an image whose PNG has an alpha channel, whatever its pixels.
type translucent struct{ image.Image }

// Opaque is what package png asks.
func (translucent) Opaque() bool { return false }

// canvas is the bytes of an image.Gray or image.NRGBA.
type canvas struct {
	image  image.Image
	pix    []byte
	stride int // bytes of a row
	bytes  int // bytes of a pixel: 1, or 4 with the last one alpha
}

// places says at which byte of a pixel a channel goes; a gray one is repeated.
var places = [...][]int{1: {0}, 2: {0, 3}, 3: {0, 1, 2}, 4: {0, 1, 2, 3}}

// newCanvas is a drawing of nothing but gap.
func newCanvas(size image.Point, channels int) canvas {
	if channels == 1 {
		m := image.NewGray(image.Rectangle{Max: size})
		for i := range m.Pix {
			m.Pix[i] = gapGray
		}
		return canvas{image: m, pix: m.Pix, stride: m.Stride, bytes: 1}
	}
	m := image.NewNRGBA(image.Rectangle{Max: size})
	for i := 0; i < len(m.Pix); i += 4 {
		copy(m.Pix[i:i+4], []byte{gapGray, gapGray, gapGray, 0xff})
	}
	return canvas{image: m, pix: m.Pix, stride: m.Stride, bytes: 4}
}

// paste draws one image and says whether all its values are numbers.
func (c canvas) paste(corner image.Point, pixels []float32, width, channels, scale int) bool {
	row := width * channels
	for y := 0; y*row < len(pixels); y++ {
		start := (corner.Y+y*scale)*c.stride + corner.X*c.bytes
		line := c.pix[start : start+width*scale*c.bytes]
		for x := range width * scale {
			for k := range channels {
				v, ok := Byte(pixels[y*row+x/scale*channels+k])
				if !ok {
					return false
				}
				line[x*c.bytes+places[channels][k]] = v
			}
			if channels == 2 {
				line[x*c.bytes+1], line[x*c.bytes+2] = line[x*c.bytes], line[x*c.bytes]
			}
		}
		for repeat := 1; repeat < scale; repeat++ {
			copy(c.pix[start+repeat*c.stride:], line)
		}
	}
	return true
}
