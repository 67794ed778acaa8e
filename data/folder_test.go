package data

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

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

func TestDecodeImage(t *testing.T) {
	gradient := func(x, y int) color.NRGBA { return color.NRGBA{uint8(10 * x), uint8(20 * y), 7, 255} }

	// The size is right: the bytes are copied.
	got, err := decodeImage(encodePNG(t, paint(4, 4, gradient)), 4, 3, maxPixels)
	require.NoError(t, err)
	require.Len(t, got, 4*4*3)
	for i := range 16 {
		require.Equal(t, []byte{byte(10 * (i % 4)), byte(20 * (i / 4)), 7}, got[3*i:3*i+3])
	}
	// Too wide, too high: the middle stays.
	got, err = decodeImage(encodePNG(t, paint(10, 4, gradient)), 4, 3, maxPixels)
	require.NoError(t, err)
	require.Equal(t, []byte{30, 0, 7}, got[:3])
	got, err = decodeImage(encodePNG(t, paint(4, 9, gradient)), 4, 3, maxPixels)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 40, 7}, got[:3])
	// Half red, half blue, shrunk: sides keep their colours.
	halves := paint(64, 64, func(x, _ int) color.NRGBA {
		if x < 32 {
			return color.NRGBA{255, 0, 0, 255}
		}
		return color.NRGBA{0, 0, 255, 255}
	})
	got, err = decodeImage(encodePNG(t, halves), 8, 3, maxPixels)
	require.NoError(t, err)
	require.Equal(t, []byte{255, 0, 0}, got[:3])
	require.Equal(t, []byte{0, 0, 255}, got[7*3:8*3])
	// A fine checkerboard averages to gray: shrinking must not alias.
	board := paint(64, 64, func(x, y int) color.NRGBA { v := uint8(255 * ((x + y) % 2)); return color.NRGBA{v, v, v, 255} })
	got, err = decodeImage(encodePNG(t, board), 8, 1, maxPixels)
	require.NoError(t, err)
	require.Len(t, got, 64)
	for _, v := range got {
		require.InDelta(t, 127.5, v, 3)
	}
	// Transparent shows white, half transparent is half white.
	got, err = decodeImage(encodePNG(t, paint(4, 4, flat(0, 0, 0, 0))), 4, 3, maxPixels)
	require.NoError(t, err)
	require.Equal(t, []byte{255, 255, 255}, got[:3])
	got, err = decodeImage(encodePNG(t, paint(8, 8, flat(0, 0, 0, 128))), 4, 1, maxPixels)
	require.NoError(t, err)
	require.InDelta(t, 127, got[5], 1)
	// Gray stays as it is, from every source; colours go to their luma.
	gray := image.NewGray(image.Rect(0, 0, 2, 2))
	copy(gray.Pix, []byte{0, 77, 200, 255})
	got, err = decodeImage(encodePNG(t, gray), 2, 1, maxPixels)
	require.NoError(t, err)
	require.Equal(t, gray.Pix, got)
	got, err = decodeImage(encodePNG(t, paint(2, 2, flat(255, 0, 0, 255))), 2, 1, maxPixels)
	require.NoError(t, err)
	require.InDelta(t, 0.299*255, got[0], 0.5)
	// JPEG.
	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, paint(16, 16, flat(200, 100, 50, 255)), &jpeg.Options{Quality: 100}))
	got, err = decodeImage(file.Bytes(), 8, 3, maxPixels)
	require.NoError(t, err)
	require.InDeltaSlice(t, []byte{200, 100, 50}, got[30:33], 3)
}

func TestDecodeImageRefusesDamage(t *testing.T) {
	good := encodePNG(t, paint(20, 10, flat(1, 2, 3, 255)))
	_, err := decodeImage([]byte("GIF89a"), 4, 3, maxPixels)
	require.ErrorIs(t, err, errNotImage)
	_, err = decodeImage(good, 4, 3, 199)
	require.ErrorContains(t, err, "20 x 10 pixels are more than the 199 that are read")
	_, err = decodeImage(good, 4, 3, 200)
	require.NoError(t, err)
	for cut := range len(good) - 12 { // all but the empty end chunk
		_, err = decodeImage(good[:cut], 4, 3, maxPixels)
		require.Error(t, err, "cut to %d of %d", cut, len(good))
	}
}

func FuzzDecodeImage(f *testing.F) {
	f.Add(encodePNG(f, paint(5, 3, flat(9, 8, 7, 255))))
	f.Add(encodePNG(f, image.NewPaletted(image.Rect(0, 0, 3, 3), color.Palette{color.Black, color.Transparent})))
	f.Add(encodePNG(f, image.NewGray16(image.Rect(0, 0, 2, 9))))
	var file bytes.Buffer
	require.NoError(f, jpeg.Encode(&file, paint(9, 9, flat(1, 90, 200, 255)), nil))
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, channels := range []int{1, 3} {
			if got, err := decodeImage(text, 4, channels, 1<<12); err == nil {
				require.Len(t, got, 16*channels)
			}
		}
	})
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, m image.Image) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o750))
		require.NoError(t, os.WriteFile(name, encodePNG(t, m), 0o600))
	}
	for i, name := range []string{"cat/a.png", "cat/deep/b.PNG", "dog/c.jpg", "ant-eater/z.jpeg"} { // a PNG by any name
		v := uint8(50 * i)
		write(name, paint(6, 8, flat(v, v, v, 255)))
	}
	write(".hidden/x.png", paint(2, 2, flat(0, 0, 0, 255)))
	write("dog/._c.jpg", paint(2, 2, flat(0, 0, 0, 255)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))

	config := Config{Name: Folder, Dir: dir, Size: 4, Channels: 1, Classes: true, CacheBytes: 40}
	d, err := Open(config)
	require.NoError(t, err)
	require.Equal(t, 4, d.Len())
	require.Equal(t, []string{"ant-eater", "cat", "dog"}, d.(*folder).Classes())
	image := make([]float32, 16)
	for range 2 { // the second time partly from the cache, which holds two
		for i, want := range []struct {
			gray  float64
			label int
		}{{150, 0}, {0, 1}, {50, 1}, {100, 2}} {
			require.NoError(t, d.Read(image, i))
			require.InDelta(t, want.gray/127.5-1, image[9], 1e-6)
			require.Equal(t, want.label, d.Label(i))
		}
	}
	require.Len(t, d.(*folder).cache, 2)
	require.Equal(t, int64(40-2*16), d.(*folder).room)

	// One that is cached survives its file; one that is not is named.
	require.NoError(t, os.Remove(filepath.Join(dir, "ant-eater/z.jpeg")))
	require.NoError(t, d.Read(image, 0))
	require.NoError(t, os.Remove(filepath.Join(dir, "dog/c.jpg")))
	var missing *MissingError
	require.ErrorAs(t, d.Read(image, 3), &missing)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dog/c.jpg"), []byte("\x89PNG\r\n\x1a\nbroken"), 0o600))
	var corrupt *CorruptError
	require.ErrorAs(t, Verify(t.Context(), d), &corrupt)
	require.Equal(t, filepath.Join(dir, "dog/c.jpg"), corrupt.Path)
	require.ErrorContains(t, corrupt, "dog/c.jpg: not an image that can be used: ")

	write("loose.png", paint(2, 2, flat(0, 0, 0, 255)))
	_, err = Open(config)
	require.ErrorContains(t, err, "loose.png is in no class")
	config.Classes = false
	d, err = Open(config)
	require.NoError(t, err)
	require.Equal(t, -1, d.Label(0))

	config.Dir = t.TempDir()
	_, err = Open(config)
	require.ErrorAs(t, err, &missing)
	config.Dir = filepath.Join(dir, "notes.txt")
	_, err = Open(config)
	require.ErrorContains(t, err, "set data.dir to a directory of PNG and JPEG files")
}

// Whole paths are sorted, not folder by folder: "a.png" comes after "a-b/".
func TestFolderOrder(t *testing.T) {
	fsys := fstest.MapFS{}
	for _, name := range []string{"a.png", "a/1.png", "a-b/1.png", "Z.png", "a/10.png", "a/2.png"} {
		fsys[name] = &fstest.MapFile{}
	}
	d, err := newFolder(fsys, Config{Size: 4, Channels: 3})
	require.NoError(t, err)
	require.Equal(t, []string{"Z.png", "a-b/1.png", "a.png", "a/1.png", "a/10.png", "a/2.png"}, d.files)
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, c := range map[string]Config{
		`data.name is "mnist"; choose one of digits, cifar10, records, folder`: {Name: "mnist", Dir: "x"},
		"data.dir is empty; data.name cifar10 needs":                           {Name: CIFAR10},
		`data.split is "val"; choose one of train, test, all`:                  {Name: CIFAR10, Dir: "x", Split: "val"},
		`data.split is "test"; digits has one split, train`:                    {Name: Digits, Split: SplitTest},
		"channels is 2":                   {Name: Digits, Channels: 2},
		"image size is -1":                {Name: Digits, Size: -1},
		"data.name folder needs the size": {Name: Folder, Dir: "x"},
		"cache is -1 bytes":               {Name: Digits, CacheBytes: -1},
		"digits has images of size 8 with 1 channels, not of size 32 with 3": {Name: Digits, Size: 32, Channels: 3},
	} {
		_, err := Open(c)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n", "one fault, one line")
	}
}
