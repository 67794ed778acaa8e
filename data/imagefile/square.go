package imagefile

import (
	"image"

	"golang.org/x/image/draw"
)

// Square returns a decoded image as [size, size, channels] bytes, upright: the
// largest square around the centre, scaled by a Catmull-Rom filter that widens
// when it shrinks, or copied exactly where the size is right already.
// Channels are 1: gray, the luma 0.299 R + 0.587 G + 0.114 B; 2: gray and alpha; 3:
// RGB; 4: RGBA, colours not multiplied by alpha. Without an alpha channel transparent
// pixels show white.
func Square(src image.Image, orientation, size, channels int) []byte {
	if channels == 2 || channels == 4 {
		return channelsOf(translucent(src, orientation, size), orientation, channels)
	}
	square := image.NewRGBA(image.Rect(0, 0, size, size))
	draw.Draw(square, square.Rect, image.White, image.Point{}, draw.Src)
	if crop := centerSquare(src.Bounds(), orientation); crop.Dx() == size {
		draw.Draw(square, square.Rect, src, crop.Min, draw.Over)
	} else {
		draw.CatmullRom.Scale(square, square.Rect, src, crop, draw.Over, nil)
	}
	return channelsOf(pixels{square.Pix, square.Stride, size}, orientation, channels)
}

// translucent is the square with its alpha. A pixel that is not scaled stays as it is,
// also the colour of one that nobody sees.
func translucent(src image.Image, orientation, size int) pixels {
	square := image.NewNRGBA(image.Rect(0, 0, size, size))
	crop := centerSquare(src.Bounds(), orientation)
	if crop.Dx() != size {
		draw.CatmullRom.Scale(square, square.Rect, src, crop, draw.Src, nil)
		return pixels{square.Pix, square.Stride, size}
	}
	for y := range size {
		for x := range size {
			square.Set(x, y, src.At(crop.Min.X+x, crop.Min.Y+y))
		}
	}
	return pixels{square.Pix, square.Stride, size}
}

// pixels are a square of 4 bytes a pixel: R, G, B, alpha.
type pixels struct {
	pix          []byte
	stride, size int
}

// centerSquare is the largest square in the middle of the upright picture. Where
// the middle lies between two pixels it takes the left or upper one, as a person
// sees the picture.
func centerSquare(r image.Rectangle, orientation int) image.Rectangle {
	side := min(r.Dx(), r.Dy())
	at := image.Pt((r.Dx()-side)/2, (r.Dy()-side)/2)
	mirrorX, mirrorY, _ := turn(orientation)
	if mirrorX {
		at.X = r.Dx() - side - at.X
	}
	if mirrorY {
		at.Y = r.Dy() - side - at.Y
	}
	corner := r.Min.Add(at)
	return image.Rectangle{Min: corner, Max: corner.Add(image.Pt(side, side))}
}

// turn says how an orientation's stored picture is read: the upright pixel (x, y)
// is the stored one (x, y), or (y, x) when transposed, counted from the right or
// the bottom when mirrored.
func turn(orientation int) (mirrorX, mirrorY, transpose bool) {
	switch orientation {
	case 2:
		return true, false, false
	case 3:
		return true, true, false
	case 4:
		return false, true, false
	case 5:
		return false, false, true
	case 6: // upright (x, y) lies at column y, row from the bottom x
		return false, true, true
	case 7:
		return true, true, true
	case 8:
		return true, false, true
	}
	return false, false, false
}

// channelsOf copies a square to [H, W, channels], upright.
func channelsOf(m pixels, orientation, channels int) []byte {
	size := m.size
	mirrorX, mirrorY, transpose := turn(orientation)
	out := make([]byte, 0, size*size*channels)
	for y := range size {
		for x := range size {
			sx, sy := x, y
			if transpose {
				sx, sy = y, x
			}
			if mirrorX {
				sx = size - 1 - sx
			}
			if mirrorY {
				sy = size - 1 - sy
			}
			i := sy*m.stride + 4*sx
			r, g, b := m.pix[i], m.pix[i+1], m.pix[i+2]
			if channels <= 2 {
				// The weights of image/color's GrayModel; they sum to 65536, so gray
				// stays as it is.
				luma := (19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16
				out = append(out, byte(luma&0xff))
			} else {
				out = append(out, r, g, b)
			}
			if channels == 2 || channels == 4 {
				out = append(out, m.pix[i+3])
			}
		}
	}
	return out
}
