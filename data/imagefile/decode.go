package imagefile

import (
	"bytes"
	"errors"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// Decode decodes a file that has at most maxPixels pixels, as it lies in the
// file: the caller turns it by the header's orientation (Upright). All errors
// are *Error.
func Decode(text []byte, maxPixels int) (m image.Image, h Header, err error) {
	r := bytes.NewReader(text)
	if h, err = ReadHeader(r, int64(len(text))); err != nil {
		return nil, h, err
	}
	if h.Width > maxPixels/h.Height {
		return nil, h, fault(TooLarge, "%d x %d pixels are more than the %d that are read", h.Width, h.Height, maxPixels)
	}
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fault(Damaged, "%s: the decoder gave up: %v", h.Format, p)
		}
	}()
	if m, err = decode(h, text); err != nil {
		return nil, h, refusal(h.Format, err)
	}
	return m, h, nil
}

func decode(h Header, text []byte) (image.Image, error) {
	r := bytes.NewReader(text)
	switch h.Format {
	case PNG:
		return png.Decode(r)
	case JPEG:
		return decodeJPEG(text)
	case WebP:
		still, _, err := stillWebP(source{r, int64(len(text))})
		if err != nil {
			return nil, err
		}
		m, err := webp.Decode(still.reader())
		if err == nil && h.Animated {
			m = onCanvas(m, webpFrameOffset(r), canvasOf(h))
		}
		return m, err
	case BMP:
		return bmp.Decode(r)
	case GIF:
		m, err := gif.Decode(r)
		if err == nil {
			m = onCanvas(m, m.Bounds().Min, canvasOf(h))
		}
		return m, err
	default:
		return tiff.Decode(r)
	}
}

// decodeJPEG also takes a file without its end marker, when every row is there:
// Pillow does, and cameras that lose power write such. One whose data is cut off
// is damaged.
func decodeJPEG(text []byte) (image.Image, error) {
	m, err := jpeg.Decode(bytes.NewReader(text))
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		ended := io.MultiReader(bytes.NewReader(text), strings.NewReader("\xff\xd9"))
		if whole, again := jpeg.Decode(ended); again == nil {
			return whole, nil
		}
	}
	return m, err
}

// canvasOf is the size of the whole picture as it lies in the file.
func canvasOf(h Header) image.Rectangle {
	if h.sideways() {
		return image.Rect(0, 0, h.Height, h.Width)
	}
	return image.Rect(0, 0, h.Width, h.Height)
}

// onCanvas puts the first frame of an animation where it belongs.
func onCanvas(m image.Image, at image.Point, canvas image.Rectangle) image.Image {
	b := m.Bounds()
	if b.Size() == canvas.Size() && at == (image.Point{}) {
		return m
	}
	whole := image.NewNRGBA(canvas)
	draw.Draw(whole, image.Rectangle{Min: at, Max: at.Add(b.Size())}, m, b.Min, draw.Src)
	return whole
}

// refusal words a decoder's error.
func refusal(f Format, err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	var (
		jpegNo jpeg.UnsupportedError
		pngNo  png.UnsupportedError
		tiffNo tiff.UnsupportedError
	)
	if errors.As(err, &jpegNo) || errors.As(err, &pngNo) || errors.As(err, &tiffNo) || errors.Is(err, bmp.ErrUnsupported) {
		return fault(NotRead, "%s of a kind that is not read: %v", f, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fault(Damaged, "%s that ends early", f)
	}
	return fault(Damaged, "%s: %s", f, strings.TrimPrefix(err.Error(), strings.ToLower(string(f))+": "))
}

// Complete says, at little cost, whether a file seems to have its end: false
// means that only decoding it can tell. It knows PNG and JPEG; of the others it
// says yes.
func Complete(f Format, r io.ReaderAt, size int64) bool {
	switch f {
	case PNG:
		_, _, ok := findPNGChunk(r, size, "IEND")
		return ok
	case JPEG:
		var tail [2]byte
		_, err := r.ReadAt(tail[:], max(size-2, 0))
		return err == nil && tail == [2]byte{0xff, 0xd9}
	default:
		return true
	}
}
