package judge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agrdist/agrdist/data"
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
		return data.Open(data.Config{Name: data.NPZ, Dir: path})
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

// first is the beginning of a set of images.
type first struct {
	data.Dataset
	n int
}

func (f first) Len() int { return f.n }
