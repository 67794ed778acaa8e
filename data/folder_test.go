package data

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
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
	require.ErrorContains(t, corrupt, "dog/c.jpg: has changed: 14 bytes, ")
	require.NoError(t, os.Remove(filepath.Join(dir, "dog/c.jpg")))

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
	require.ErrorContains(t, err, "set data.dir to a directory of images")
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, c := range map[string]Config{
		`data.name is "mnist"; choose one of digits, cifar10, records, folder, npz`: {Name: "mnist", Dir: "x"},
		"data.dir is empty; data.name cifar10 needs":                                {Name: CIFAR10},
		`the split is "val"; choose one of train, test, all, heldout`:               {Name: CIFAR10, Dir: "x", Split: "val"},
		`the split is "test"; only cifar10 has one (see data.holdout)`:              {Name: Digits, Split: SplitTest},
		"model.in_channels is 5; image files have":                                  {Name: Folder, Dir: "x", Size: 8, Channels: 5},
		"channels is -1":                  {Name: Digits, Channels: -1},
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
