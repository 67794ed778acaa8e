package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// folder is a data set of image files, decoded when they are read.
type folder struct {
	dir      string // for messages
	fsys     fs.FS
	files    []string // slash-separated, relative to dir, sorted
	labels   []int    // nil without classes
	classes  []string
	size     int
	channels int

	mu    sync.Mutex
	cache map[int][]byte // decoded images, [size, size, channels]
	room  int64          // bytes left in the cache
}

var _ Dataset = (*folder)(nil)

func openFolder(c Config) (*folder, error) {
	if !isDir(c.Dir) {
		return nil, &MissingError{Path: c.Dir, Mend: "set data.dir to a directory of PNG and JPEG files"}
	}
	return newFolder(os.DirFS(c.Dir), c)
}

// newFolder lists the image files. Names that start with a dot are skipped, and
// files with other extensions.
func newFolder(fsys fs.FS, c Config) (*folder, error) {
	d := &folder{
		dir: c.Dir, fsys: fsys, size: c.Size, channels: c.Channels,
		cache: map[int][]byte{}, room: c.CacheBytes,
	}
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
		case !e.IsDir() && isImageName(name):
			d.files = append(d.files, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing data.dir %s: %w", c.Dir, err)
	}
	if len(d.files) == 0 {
		return nil, &MissingError{
			Path: filepath.Join(c.Dir, "**", "*.{png,jpg,jpeg}"),
			Mend: "set data.dir to a directory of PNG and JPEG files",
		}
	}
	// The walk goes folder by folder; whole paths in byte order are the same
	// list on every system.
	slices.Sort(d.files)
	if c.Classes {
		return d, d.classify()
	}
	return d, nil
}

func isImageName(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg":
		return true
	}
	return false
}

// classify labels every file by the first folder of its path.
func (d *folder) classify() error {
	class := make([]string, len(d.files))
	for i, name := range d.files {
		first, _, below := strings.Cut(name, "/")
		if !below {
			return fmt.Errorf("%s is in no class; move it into a folder of data.dir, or turn classes off", filepath.Join(d.dir, name))
		}
		class[i] = first
	}
	d.classes = slices.Clone(class)
	slices.Sort(d.classes)
	d.classes = slices.Compact(d.classes)
	d.labels = make([]int, len(class))
	for i, name := range class {
		d.labels[i], _ = slices.BinarySearch(d.classes, name)
	}
	return nil
}

func (d *folder) Name() string                        { return Folder + " " + d.dir }
func (d *folder) Len() int                            { return len(d.files) }
func (d *folder) Size() (height, width, channels int) { return d.size, d.size, d.channels }

// Classes returns the names of the classes in the order of the labels, or
// nothing when the folders are not classes.
func (d *folder) Classes() []string { return slices.Clone(d.classes) }

func (d *folder) Label(index int) int {
	if d.labels == nil {
		return -1
	}
	return d.labels[index]
}

func (d *folder) Read(dst []float32, index int) error {
	checkRead(d, dst, index)
	pixels, err := d.decoded(index)
	if err != nil {
		return err
	}
	for i, v := range pixels {
		dst[i] = unit[v]
	}
	return nil
}

// decoded returns the pixels of an image from the cache, or decodes it and
// keeps it while there is room. A run visits all images once an epoch, so an
// image that was visited long ago is as likely to come next as any other:
// nothing is gained by evicting one for another.
func (d *folder) decoded(index int) ([]byte, error) {
	d.mu.Lock()
	pixels, ok := d.cache[index]
	d.mu.Unlock()
	if ok {
		return pixels, nil
	}
	name := filepath.Join(d.dir, filepath.FromSlash(d.files[index]))
	text, err := fs.ReadFile(d.fsys, d.files[index])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Path: name, Mend: "it was there when the run started; put it back"}
	}
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	pixels, err = decodeImage(text, d.size, d.channels, maxPixels)
	if err != nil {
		return nil, &CorruptError{Path: name, Offset: -1, Reason: "not an image that can be used", Err: err, Mend: "replace the file, or remove it and start a new run"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.cache[index]; !ok && d.room >= int64(len(pixels)) {
		d.cache[index] = pixels
		d.room -= int64(len(pixels))
	}
	return pixels, nil
}
