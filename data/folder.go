package data

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/agrdist/agrdist/data/imagefile"
)

// folder is a data set of image files, decoded when they are read.
type folder struct {
	dir      string
	images   []folderImage
	classes  []string // empty: no classes
	size     int
	channels int
	print    string // the index's fingerprint

	mu    sync.Mutex
	cache map[int][]byte // decoded images, [size, size, channels]
	room  int64          // bytes left in the cache
}

// folderImage is what reading a file needs of its index entry.
type folderImage struct {
	path  string // slash-separated, relative to dir
	size  int64  // bytes, at the scan
	label int32  // -1: none
}

var _ Dataset = (*folder)(nil)

// openFolder makes the data set of an index, or of a scan where none is given.
func openFolder(c Config) (*folder, error) {
	x := c.Index
	if x == nil {
		var err error
		if x, err = Scan(context.Background(), ScanConfig{Dir: c.Dir, Verify: c.Verify, Corrupt: c.Corrupt}); err != nil {
			return nil, err
		}
	}
	d := &folder{
		dir: c.Dir, size: c.Size, channels: c.Channels, print: x.Fingerprint(),
		cache: map[int][]byte{}, room: c.CacheBytes,
	}
	var labels []int
	if labels, d.classes = x.Labels(); c.Classes && labels == nil {
		i := slices.IndexFunc(x.Images, func(m Image) bool { return !strings.Contains(m.Path, "/") })
		return nil, fmt.Errorf("%s is in no class; move it into a folder of data.dir, or turn classes off", quoted(filepath.Join(d.dir, x.Images[i].Path)))
	}
	d.images = make([]folderImage, len(x.Images))
	for i, m := range x.Images {
		d.images[i] = folderImage{path: m.Path, size: m.Size, label: -1}
		if labels != nil {
			d.images[i].label = int32(labels[i])
		}
	}
	return d, nil
}

// Labels labels every image by the first directory of its path. Where an image
// lies in the folder itself there are no classes: both results are nil then.
func (x *Index) Labels() (labels []int, classes []string) {
	class := make([]string, len(x.Images))
	for i, m := range x.Images {
		first, _, below := strings.Cut(m.Path, "/")
		if !below {
			return nil, nil
		}
		class[i] = first
	}
	classes = slices.Clone(class)
	slices.Sort(classes)
	classes = slices.Compact(classes)
	labels = make([]int, len(class))
	for i, name := range class {
		labels[i], _ = slices.BinarySearch(classes, name)
	}
	return labels, classes
}

func (d *folder) Name() string                        { return Folder + " " + quoted(d.dir) }
func (d *folder) Len() int                            { return len(d.images) }
func (d *folder) Size() (height, width, channels int) { return d.size, d.size, d.channels }
func (d *folder) Label(index int) int                 { return int(d.images[index].label) }

// Classes returns the names of the classes in the order of the labels, or
// nothing when the folders are not classes.
func (d *folder) Classes() []string { return slices.Clone(d.classes) }

// Fingerprint identifies the list of images.
func (d *folder) Fingerprint() string { return d.print }

// ImageName is the file of an image.
func (d *folder) ImageName(index int) string {
	return filepath.Join(d.dir, filepath.FromSlash(d.images[index].path))
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
	pixels, err := d.decode(d.ImageName(index), d.images[index].size)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.cache[index]; !ok && d.room >= int64(len(pixels)) {
		d.cache[index] = pixels
		d.room -= int64(len(pixels))
	}
	return pixels, nil
}

// decode reads a file. It must be the one that the scan saw: another one would
// change the run's bits in silence.
func (d *folder) decode(name string, size int64) ([]byte, error) {
	corrupt := func(reason string, err error) error {
		return &CorruptError{Path: name, Offset: -1, Reason: reason, Err: err, Fix: "put back the file that was there when the run started"}
	}
	f, info, err := openRegular(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Path: name, Fix: "it was there when the run started; put it back"}
	}
	if err != nil {
		return nil, corrupt("cannot be opened", err)
	}
	defer f.Close()
	if info.Size() != size {
		return nil, corrupt(fmt.Sprintf("has changed: %d bytes, %d when the run started", info.Size(), size), nil)
	}
	text := make([]byte, size)
	if n, err := f.ReadAt(text, 0); n < len(text) {
		return nil, corrupt("cannot be read", err)
	}
	m, h, err := imagefile.Decode(text, maxPixels)
	if err != nil {
		return nil, &CorruptError{
			Path: name, Offset: -1, Reason: "not an image that can be used", Err: err,
			Fix: "replace the file and start a new run; data.verify=full finds such files before a run starts",
		}
	}
	return imagefile.Square(m, h.Orientation, d.size, d.channels), nil
}

// Fingerprint identifies what a data set holds: two data sets with one
// fingerprint give a run the same images. It is empty for one that is a part of
// the program.
func Fingerprint(d Dataset) string {
	if f, ok := d.(interface{ Fingerprint() string }); ok {
		return f.Fingerprint()
	}
	return ""
}

// labelsFingerprint is the fingerprint of record files.
func labelsFingerprint(files []string, labels []byte) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q\n", f)
	}
	h.Write(labels)
	return fingerprint(len(labels), h.Sum(nil))
}
