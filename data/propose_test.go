package data

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func settings(t *testing.T, info *Info) map[string]string {
	t.Helper()
	p, err := Propose(info)
	require.NoError(t, err)
	out := map[string]string{}
	for _, s := range p.Settings {
		out[s.Key] = s.Value
	}
	return out
}

// Size and channels follow the images; a folder of colour photographs does not
// become small and gray.
func TestPropose(t *testing.T) {
	for _, c := range []struct {
		short, images          int
		colour                 bool
		size, channels, blocks string
		steps                  string
	}{
		{480, 10_000, true, "32", "3", "[32, 64, 64]", "18700"},
		{32, 50_000, true, "32", "3", "[32, 64, 64]", "20000"},
		{28, 60_000, false, "28", "1", "[32, 64, 64]", "20000"},
		{31, 500, true, "28", "3", "[32, 64, 64]", "2000"},
		{16, 500, true, "16", "3", "[32, 64, 64]", "2000"},
		{15, 500, true, "14", "3", "[32, 64]", "2000"},
		{9, 500, true, "8", "3", "[32, 64]", "2000"},
		{5, 500, false, "5", "1", "[32]", "2000"},
	} {
		got := settings(t, &Info{Config: Config{Name: Folder, Dir: "/x/my photos"}, Images: c.images, Short: c.short, Colour: c.colour})
		require.Equal(t, c.size, got["model.sample_size"], c.short)
		require.Equal(t, c.channels, got["model.in_channels"])
		require.Equal(t, c.blocks, got["model.block_out_channels"])
		require.Equal(t, c.steps, got["train.steps"])
		require.Equal(t, `"/x/my photos"`, got["data.dir"])
		require.Equal(t, `"runs/my-photos"`, got["out"])
	}
	_, err := Propose(&Info{Config: Config{Name: Folder, Dir: "d"}, Images: 5, Short: 3})
	require.ErrorContains(t, err, "d: the images are 3 pixels across")
	p, err := Propose(&Info{
		Config: Config{Name: Folder, Dir: "."}, Images: 100, Short: 64, Colour: true, Turned: 3, Moving: 2,
		Modes: []Count{{"rgb", 90}, {"gray", 10}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{
		"images are cropped to their middle square and scaled to 32x32",
		"model.sample_size=64 shows more and takes about 4 times as long",
		"10 gray images are trained on as RGB",
		"3 images are turned upright as their EXIF orientation says",
		"of each animation (2) the first frame is used",
		"100 images are few: the model will learn them by heart",
		"data.flip=true doubles what mirrored images are good for (photographs, not text)",
	}, p.Notes)
}

func TestDetect(t *testing.T) {
	root := t.TempDir()
	write := func(name string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	for _, name := range []string{
		"bin/data_batch_1.bin", "outer/cifar-10-batches-bin/data_batch_1.bin", "py/data_batch_1", "packed/cifar-10-python.tar.gz",
		"records/a.bin", "records/README", "mixed/a.bin", "mixed/b.png", "photos/sub/a.jpg", "photos/x.txt", "file",
	} {
		write(name)
	}
	for name, want := range map[string]string{
		"bin": CIFAR10, "outer": CIFAR10, "py": CIFAR10, "packed": CIFAR10, "packed/cifar-10-python.tar.gz": CIFAR10,
		"records": Records, "mixed": Folder, "photos": Folder,
	} {
		c, err := Detect(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, want, c.Name, name)
	}
	c, err := Detect(Digits)
	require.NoError(t, err)
	require.Equal(t, DefaultConfig(), c)
	_, err = Detect(filepath.Join(root, "file"))
	require.ErrorContains(t, err, "file is no directory; set data.dir")
	_, err = Detect(filepath.Join(root, "nowhere"))
	require.ErrorContains(t, err, "nowhere: not found; set data.dir")
}

func TestDescribe(t *testing.T) {
	w := newTree(t)
	w.png("cats/a.png", "cats/b.png", "dogs/c.png") // 4x4, 5x4, 6x4
	w.file("cats/turned.jpg", testdata(t, "exif6.jpg"))
	w.file("dogs/anim.webp", testdata(t, "anim.webp"))
	w.file("dogs/gray.png", testdata(t, "png-l.png"))
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	info, err := Describe(Config{Name: Folder, Dir: w.dir}, x)
	require.NoError(t, err)
	require.Equal(t, 6, info.Images)
	require.Equal(t, []Count{{"PNG", 4}, {"JPEG", 1}, {"WebP", 1}}, info.Formats)
	require.Equal(t, []Count{{"12x8", 3}, {"4x4", 1}, {"5x4", 1}, {"6x4", 1}}, info.Sizes)
	require.Equal(t, []Count{{"cats", 3}, {"dogs", 3}}, info.Classes)
	require.Equal(t, []int{1, 1, 8}, []int{info.Turned, info.Moving, info.Short})
	require.True(t, info.Colour)
	require.False(t, info.Square)

	d, err := Open(Config{Name: Folder, Dir: w.dir, Size: 4, Channels: 3, Index: x})
	require.NoError(t, err)
	require.Equal(t, []string{"cats", "dogs"}, ClassesOf(d))
	require.Equal(t, 1, d.Label(5))

	info, err = Describe(DefaultConfig(), nil)
	require.NoError(t, err)
	require.Len(t, info.Classes, 10)
	require.Equal(t, Count{"3", 183}, info.Classes[3])
	require.False(t, info.Colour)
}

func TestMeasure(t *testing.T) {
	// The mean pixel of digits is 4.884165, its variance 36.2.
	got, err := Measure(t.Context(), openTest(t, DefaultConfig()), 1<<20)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.InDelta(t, 4.884165/8-1, got[0].Mean, 1e-6)
	require.InDelta(t, 6.016788/8, got[0].Deviation, 1e-5)

	got, err = Measure(t.Context(), counted(5), 3) // images 0, 1 and 3
	require.NoError(t, err)
	require.InDelta(t, 4.0/3, got[0].Mean, 1e-12)
	require.InDelta(t, math.Sqrt(10.0/3-16.0/9), got[0].Deviation, 1e-12)
}
