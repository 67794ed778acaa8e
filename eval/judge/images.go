package judge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval/npz"
)

// OpenImages opens images by where they are: a folder of image files of one square size,
// an npz file with a uint8 array [N, height, width, channels] (what agrdist sample and the
// sample batches of others are), or a data set as NAME or NAME,DIR. The caller closes it.
func OpenImages(ctx context.Context, path string) (data.Dataset, error) {
	name, dir, comma := strings.Cut(path, ",")
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return openFolder(ctx, path)
	case err == nil && filepath.Ext(path) == ".npz":
		return openArray(path)
	case err == nil:
		return nil, fmt.Errorf("%s is a file; images are read from a directory or an .npz", path)
	case comma && name == data.Folder:
		return openFolder(ctx, dir)
	case comma || path == data.Digits:
		c := data.DefaultConfig()
		c.Name, c.Dir = name, dir
		return data.Open(c)
	}
	return nil, fmt.Errorf("%w; give a directory of images, an .npz file, or a data set as digits or cifar10,DIR", err)
}

// openFolder opens a folder whose images have one square size, which nothing resizes.
func openFolder(ctx context.Context, dir string) (data.Dataset, error) {
	x, err := data.Scan(ctx, data.ScanConfig{Dir: dir, CachePath: data.DefaultCachePath(dir)})
	if missing := (*data.MissingError)(nil); errors.As(err, &missing) {
		missing.Fix = "give a directory of images" // there is no data.dir here
	}
	if err != nil {
		return nil, err
	}
	first, channels := x.Images[0], 1
	for _, m := range x.Images {
		h := m.Header
		if h.Width != h.Height || h.Width != first.Header.Width {
			return nil, fmt.Errorf("%s is %dx%d and %s %dx%d; the images of an evaluation are squares of one size: crop and resize them first",
				filepath.Join(dir, first.Path), first.Header.Width, first.Header.Height, m.Path, h.Width, h.Height)
		}
		if !strings.HasPrefix(h.Mode, "gray") {
			channels = 3
		}
	}
	return data.Open(data.Config{Name: data.Folder, Dir: dir, Size: first.Header.Width, Channels: channels, Index: x})
}

// array is images in memory, as an npz file has them.
type array struct {
	path       string
	n, h, w, c int
	pixels     []byte
}

// maxArray bounds the bytes of an array of images, which is held in memory.
const maxArray = 16 << 30

func openArray(path string) (images *array, err error) {
	f, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return arrayOf(f, path)
}

// arrayOf reads the images of an npz file.
func arrayOf(f *npz.File, path string) (images *array, err error) {
	names := f.Names()
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: it has no arrays", path)
	}
	name := names[0] // of the sample batches of others, arr_0; labels come after it
	for _, usual := range []string{"images", "samples", "arr_0"} {
		if slices.Contains(names, usual) {
			name = usual
		}
	}
	a, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	s := a.Shape
	if a.DType != "u1" || a.Fortran || len(s) != 4 || s[3] != 1 && s[3] != 3 || slices.Min(s) < 1 || s[1] > 1<<13 || s[2] > 1<<13 {
		return nil, fmt.Errorf("%s: array %q is %s %v; images are u1 (uint8) [N, height, width, 1 or 3], in C order", path, name, a.DType, s)
	}
	if a.Len() > maxArray {
		return nil, fmt.Errorf("%s: array %q has %d GiB; it would be held in memory: make it a directory of PNGs", path, name, a.Len()>>30)
	}
	images = &array{path: path, n: s[0], h: s[1], w: s[2], c: s[3]}
	return images, images.read(a)
}

func (s *array) read(a *npz.Array) error {
	part := make([]float64, min(a.Len(), 1<<16))
	for a.Len() > 0 {
		part = part[:min(a.Len(), int64(len(part)))]
		if err := a.Read(part); err != nil {
			return err
		}
		for _, v := range part {
			s.pixels = append(s.pixels, byte(v))
		}
	}
	return nil
}

func (s *array) Name() string                        { return filepath.Base(s.path) }
func (s *array) Len() int                            { return s.n }
func (s *array) Size() (height, width, channels int) { return s.h, s.w, s.c }
func (s *array) Label(int) int                       { return -1 }

// Read implements data.Dataset.
func (s *array) Read(dst []float32, index int) error {
	for i, v := range s.pixels[index*len(dst):][:len(dst)] {
		dst[i] = float32(v)/127.5 - 1
	}
	return nil
}

// first is the beginning of a set of images.
type first struct {
	data.Dataset
	n int
}

func (f first) Len() int { return f.n }
