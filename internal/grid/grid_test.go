package grid

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// ramp gives every element of n images a value of its own.
func ramp(n, size int) []float32 {
	x := make([]float32, n*size)
	for i := range x {
		x[i] = float32(i)/float32(len(x)-1)*2 - 1
	}
	return x
}

func render(t *testing.T, images []float32, n, height, width, channels int, o Options) image.Image {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Write(&out, images, n, height, width, channels, o))
	m, err := png.Decode(&out)
	require.NoError(t, err)
	return m
}

func level(v float32) uint8 { return uint8(math.Round((float64(v) + 1) * 127.5)) }

// Every pixel of the drawing, gray and colour, is the one it should be.
func TestWriteIsThePixelsOfTheImages(t *testing.T) {
	const n, height, width = 5, 3, 2
	for _, channels := range []int{1, 2, 3, 4} {
		for _, o := range []Options{{Columns: 2, Gap: 3, Scale: 4}, {Columns: 9, Gap: -1, Scale: 1}, {Columns: 1, Gap: 1, Scale: 2}} {
			x := ramp(n, height*width*channels)
			m := render(t, x, n, height, width, channels, o)
			columns, gap := min(o.Columns, n), max(o.Gap, 0)
			rows := (n + columns - 1) / columns
			require.Equal(t, image.Rect(0, 0, gap+columns*(width*o.Scale+gap), gap+rows*(height*o.Scale+gap)), m.Bounds())
			for py := range m.Bounds().Dy() {
				for px := range m.Bounds().Dx() {
					want := color.NRGBA{gapGray, gapGray, gapGray, 0xff}
					column, dx := (px-gap)/(width*o.Scale+gap), (px-gap)%(width*o.Scale+gap)
					row, dy := (py-gap)/(height*o.Scale+gap), (py-gap)%(height*o.Scale+gap)
					if i := row*columns + column; px >= gap && py >= gap && dx < width*o.Scale && dy < height*o.Scale && i < n {
						at := ((i*height+dy/o.Scale)*width + dx/o.Scale) * channels
						r, g, b := x[at], x[at], x[at]
						if channels >= 3 {
							g, b = x[at+1], x[at+2]
						}
						want = color.NRGBA{level(r), level(g), level(b), 0xff}
						if channels%2 == 0 {
							want.A = level(x[at+channels-1])
						}
					}
					got := color.NRGBAModel.Convert(m.At(px, py))
					if got != want {
						require.Equal(t, want, got, "%+v channels %d pixel %d, %d", o, channels, px, py)
					}
				}
			}
			_, gray := m.(*image.Gray)
			require.Equal(t, channels == 1, gray)
		}
	}
}

// More channels than a PNG has are drawn beside one another.
func TestManyChannelsAreDrawnBesideOneAnother(t *testing.T) {
	const n, height, width, channels = 3, 2, 4, 5
	x := ramp(n, height*width*channels)
	m := render(t, x, n, height, width, channels, Options{Columns: 1, Gap: -1, Scale: 1})
	require.Equal(t, image.Rect(0, 0, width*channels, n*height), m.Bounds())
	for i, v := range x {
		k, at := i%channels, i/channels
		require.Equal(t, level(v), m.(*image.Gray).GrayAt(k*width+at%width, at/width).Y)
	}
	bytes, err := Bytes(n, height, width, channels, Options{Columns: 1, Gap: -1, Scale: 1})
	require.NoError(t, err)
	require.EqualValues(t, len(x), bytes)
}

func TestAutomaticLayout(t *testing.T) {
	for _, c := range []struct{ n, side, width, height int }{
		{64, 8, 8*(8*8+4) + 4, 8*(8*8+4) + 4},    // 8 columns at scale 8
		{16, 32, 4*(32*4+4) + 4, 4*(32*4+4) + 4}, // 4 columns at scale 4
		{1, 8, 74*8 + 8, 74*8 + 8},               // one image fills it
		{10, 256, 4*(256+4) + 4, 3*(256+4) + 4},  // never made smaller
		{3, 8, 2*(8*36+4) + 4, 2*(8*36+4) + 4},   // the last row is not full
		{1000, 16, 32*(16+4) + 4, 32*(16+4) + 4}, // many
	} {
		_, size, err := Options{}.resolve(c.n, c.side, c.side)
		require.NoError(t, err)
		require.Equal(t, image.Pt(c.width, c.height), size, "%+v", c)
	}
	m := render(t, make([]float32, 4*64*3), 4, 8, 8, 3, Options{})
	require.Equal(t, image.Pt(2*(8*36+4)+4, 2*(8*36+4)+4), m.Bounds().Size())
}

func TestValuesAreClipped(t *testing.T) {
	m := render(t, []float32{-3, -1, 0, 1, float32(math.Inf(1)), float32(math.Inf(-1))}, 1, 1, 6, 1, Options{Gap: -1, Scale: 1})
	require.Equal(t, []uint8{0, 0, 128, 255, 255, 0}, m.(*image.Gray).Pix)
}

func TestWriteErrors(t *testing.T) {
	x := make([]float32, 8)
	for want, call := range map[string]func() error{
		"0 images of":                          func() error { return Write(nil, nil, 0, 2, 2, 1, Options{}) },
		"with 0 channels":                      func() error { return Write(nil, nil, 1, 2, 2, 0, Options{}) },
		"8 values for 3 images":                func() error { return Write(nil, x, 3, 2, 2, 1, Options{}) },
		"-1 columns":                           func() error { return Write(nil, x, 2, 2, 2, 1, Options{Columns: -1}) },
		"do not fit into":                      func() error { return Write(nil, x, 2, 2, 2, 1, Options{Scale: math.MaxInt}) },
		"the drawing has 40012 x 20008 pixels": func() error { return Write(nil, x[:2], 2, 1, 1, 1, Options{Columns: 2, Scale: 20_000, Gap: 4}) },
		"draw fewer images":                    func() error { return Write(nil, x, 2, 2, 2, 1, Options{Gap: 30_000}) },
		"image 1 has a value": func() error {
			return Write(nil, []float32{0, 0, 0, 0, 0, float32(math.NaN()), 0, 0}, 2, 2, 2, 1, Options{})
		},
		"disk full": func() error { return Write(full{}, x, 2, 2, 2, 1, Options{}) },
	} {
		require.ErrorContains(t, call(), want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteFileIsAtomicAndReproducible(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "step-100.png")
	x := ramp(9, 64)
	require.NoError(t, WriteFile(path, x, 9, 8, 8, 1, Options{Scale: 2}))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	var direct bytes.Buffer
	require.NoError(t, Write(&direct, x, 9, 8, 8, 1, Options{Scale: 2}))
	require.Equal(t, direct.Bytes(), first)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode())

	// A failure leaves the old file and nothing else.
	x[70] = float32(math.NaN())
	require.ErrorContains(t, WriteFile(path, x, 9, 8, 8, 1, Options{Scale: 2}), "image 1")
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, again)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	// Over a directory: the rename fails, and the temporary file goes.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "taken.png"), 0o750))
	require.Error(t, WriteFile(filepath.Join(dir, "taken.png"), ramp(1, 64), 1, 8, 8, 1, Options{Scale: 2}))
	require.ErrorIs(t, WriteFile(filepath.Join(dir, "no", "x.png"), x, 9, 8, 8, 1, Options{Scale: 2}), os.ErrNotExist)
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}
