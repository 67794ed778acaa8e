package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/draw"
)

const (
	// maxPixels bounds what one file may make the decoder allocate: a few
	// hundred bytes can claim to be an image of any size.
	maxPixels = 1 << 26
	// maxSide bounds the size that images are converted to.
	maxSide = 4096
)

var errNotImage = errors.New("neither PNG nor JPEG by its first bytes")

// decodeImage decodes a PNG or JPEG file and returns [size, size, channels]
// bytes: the largest square around the centre, scaled by a Catmull-Rom filter
// that widens when it shrinks, or copied exactly where the size is right
// already. Transparent pixels show white. One channel is the luma 0.299 R +
// 0.587 G + 0.114 B. EXIF orientation is not applied.
func decodeImage(text []byte, size, channels, maxPixels int) ([]byte, error) {
	decode, config := png.Decode, png.DecodeConfig
	switch {
	case bytes.HasPrefix(text, []byte("\x89PNG\r\n\x1a\n")):
	case bytes.HasPrefix(text, []byte("\xff\xd8")):
		decode, config = jpeg.Decode, jpeg.DecodeConfig
	default:
		return nil, errNotImage
	}
	header, err := config(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if header.Width < 1 || header.Height < 1 {
		return nil, fmt.Errorf("%d x %d pixels", header.Width, header.Height)
	}
	if header.Width > maxPixels/header.Height {
		return nil, fmt.Errorf("%d x %d pixels are more than the %d that are read", header.Width, header.Height, maxPixels)
	}
	src, err := decode(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	square := image.NewRGBA(image.Rect(0, 0, size, size))
	draw.Draw(square, square.Rect, image.White, image.Point{}, draw.Src)
	if crop := centerSquare(src.Bounds()); crop.Dx() == size {
		draw.Draw(square, square.Rect, src, crop.Min, draw.Over)
	} else {
		draw.CatmullRom.Scale(square, square.Rect, src, crop, draw.Over, nil)
	}
	return channelsOf(square, channels), nil
}

// centerSquare is the largest square in the middle of r.
func centerSquare(r image.Rectangle) image.Rectangle {
	side := min(r.Dx(), r.Dy())
	corner := r.Min.Add(image.Pt((r.Dx()-side)/2, (r.Dy()-side)/2))
	return image.Rectangle{Min: corner, Max: corner.Add(image.Pt(side, side))}
}

// channelsOf copies an opaque image to [H, W, channels].
func channelsOf(m *image.RGBA, channels int) []byte {
	out := make([]byte, 0, m.Rect.Dx()*m.Rect.Dy()*channels)
	for i := 0; i < len(m.Pix); i += 4 {
		r, g, b := m.Pix[i], m.Pix[i+1], m.Pix[i+2]
		if channels == 1 {
			// The weights of image/color's GrayModel; they sum to 65536, so gray
			// stays as it is.
			luma := (19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16
			out = append(out, byte(luma&0xff))
			continue
		}
		out = append(out, r, g, b)
	}
	return out
}
