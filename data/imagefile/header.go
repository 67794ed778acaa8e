package imagefile

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// Header is what a file says of itself.
type Header struct {
	Format        Format
	Width, Height int    // pixels, upright
	Mode          string // gray, gray16, palette, rgb, rgba, rgb16, rgba16 or cmyk
	Orientation   int    // EXIF's, 1 to 8; 1 is upright
	Animated      bool   // more frames follow the first (known of WebP and PNG)
}

// sideways says whether width and height change places.
func (h Header) sideways() bool { return h.Orientation >= 5 }

// ReadHeader reads the header of a file of size bytes. It reads little: some
// kilobytes, and what it has to pass over is not read. The error is an *Error,
// or the reader's own.
func ReadHeader(r io.ReaderAt, size int64) (h Header, err error) {
	if size == 0 {
		return Header{}, fault(Empty, "the file is empty")
	}
	head := make([]byte, min(size, sniffLen))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return Header{}, fmt.Errorf("reading its first bytes: %w", err)
	}
	format, other := sniff(head)
	if format == "" {
		return Header{}, fault(NotRead, "%s", other)
	}
	return readHeader(r, size, format)
}

// readHeader is ReadHeader for a known format.
func readHeader(r io.ReaderAt, size int64, format Format) (h Header, err error) {
	h.Format, h.Orientation = format, 1
	watched := &failures{r: r}
	defer func() {
		// A decoder that gives up by a panic has met damage.
		if p := recover(); p != nil {
			err = fault(Damaged, "%s: the decoder gave up: %v", format, p)
		}
		if err != nil && watched.err != nil {
			err = watched.err // the disk's fault, not the file's
		}
	}()
	src := source{watched, size}
	if format == WebP {
		if src, h.Animated, err = stillWebP(src); err != nil {
			return h, err
		}
	}
	config, err := decodeConfig(format, src)
	if err != nil {
		return h, refusal(format, err)
	}
	if config.Width < 1 || config.Height < 1 {
		return h, fault(Damaged, "%s of %d x %d pixels", format, config.Width, config.Height)
	}
	h.Width, h.Height, h.Mode = config.Width, config.Height, mode(config.ColorModel)
	if format == WebP && h.Animated { // the canvas, not the frame
		h.Width, h.Height = webpCanvas(source{watched, size})
	}
	if format == PNG {
		_, _, h.Animated = findPNGChunk(watched, size, "acTL")
	}
	h.Orientation = orientation(exifOf(format, watched, size))
	if h.sideways() {
		h.Width, h.Height = h.Height, h.Width
	}
	return h, nil
}

// source is a file, or what is made of one.
type source struct {
	io.ReaderAt
	size int64
}

func (s source) reader() io.Reader {
	return bufio.NewReader(io.NewSectionReader(s.ReaderAt, 0, s.size))
}

func decodeConfig(f Format, s source) (image.Config, error) {
	switch f {
	case PNG:
		return png.DecodeConfig(s.reader())
	case JPEG:
		return jpeg.DecodeConfig(s.reader())
	case WebP:
		return webp.DecodeConfig(s.reader())
	case BMP:
		return bmp.DecodeConfig(s.reader())
	case GIF:
		return gif.DecodeConfig(s.reader())
	default: // TIFF jumps about in its file
		return tiff.DecodeConfig(io.NewSectionReader(s.ReaderAt, 0, s.size))
	}
}

// failures remembers the first failure of a reader that is not its end.
type failures struct {
	r   io.ReaderAt
	err error
}

func (f *failures) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.r.ReadAt(p, at)
	if err != nil && err != io.EOF && f.err == nil {
		f.err = err
	}
	return n, err
}

func mode(m color.Model) string {
	switch m {
	case color.GrayModel:
		return "gray"
	case color.Gray16Model:
		return "gray16"
	case color.RGBAModel, color.YCbCrModel:
		return "rgb"
	case color.NRGBAModel, color.NYCbCrAModel:
		return "rgba"
	case color.RGBA64Model:
		return "rgb16"
	case color.NRGBA64Model:
		return "rgba16"
	case color.CMYKModel:
		return "cmyk"
	}
	if _, ok := m.(color.Palette); ok {
		return "palette"
	}
	return "other"
}
