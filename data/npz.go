package data

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/agrdist/agrdist/eval/npz"
)

// npzImages is images in memory, as an npz file has them.
type npzImages struct {
	path       string
	n, h, w, c int
	pixels     []byte
	labels     []int // nil: none
}

// maxArray bounds the bytes of an array of images, which is held in memory.
const maxArray = 16 << 30

// The names of arrays by which others' files have images and labels; of several, the
// first counts. Where there is no such name, the one array of four dimensions is the
// images.
var (
	imageArrays = []string{"arr_0", "samples", "images"}
	labelArrays = []string{"labels", "y", "arr_1"}
)

// openNPZ opens an npz file with a uint8 array [N, height, width, channels], and labels
// where it has them as integers [N].
func openNPZ(path string) (images *npzImages, err error) {
	f, err := npz.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &MissingError{Path: path, Fix: "give an .npz file with images as uint8 [N, height, width, channels]"}
		}
		return nil, err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	return arrayOf(f, path)
}

// arrayOf reads the images of an npz file.
func arrayOf(f *npz.File, path string) (*npzImages, error) {
	names := f.Names()
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: it has no arrays", path)
	}
	name := named(names, imageArrays)
	if name == "" {
		if name = names[0]; len(names) > 1 {
			likely := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return rank(f, n) != 4 })
			if len(likely) != 1 {
				return nil, fmt.Errorf("%s has arrays %q; call the one with the images %s", path, names, imageArrays[0])
			}
			name = likely[0]
		}
	}
	s, err := readImages(f, path, name)
	if err != nil {
		return nil, err
	}
	if label := named(names, labelArrays); label != "" && label != name {
		if s.labels, err = readLabels(f, path, label, s.n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rank is an array's number of dimensions, -1 where it cannot be read.
func rank(f *npz.File, name string) int {
	a, err := f.Open(name)
	if err != nil {
		return -1
	}
	_ = a.Close() // nothing was read
	return len(a.Shape)
}

// named is the first of the wanted names that is there; empty where none is.
func named(names, wanted []string) string {
	for _, w := range wanted {
		if slices.Contains(names, w) {
			return w
		}
	}
	return ""
}

func readImages(f *npz.File, path, name string) (images *npzImages, err error) {
	a, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, a.Close()) }()
	s := a.Shape
	if len(s) == 4 && s[0] == 0 {
		return nil, fmt.Errorf("%s: array %q has no images: its shape is %v", path, name, s)
	}
	if a.DType != "u1" || a.Fortran || len(s) != 4 || slices.Min(s) < 1 || s[1] > maxSide || s[2] > maxSide || s[3] > maxSide {
		return nil, fmt.Errorf("%s: array %q is %s %v; images are u1 (uint8) [N, height, width, channels], in C order", path, name, a.DType, s)
	}
	if a.Len() > maxArray {
		return nil, fmt.Errorf("%s: array %q has %d GiB; it would be held in memory: make it a directory of PNGs", path, name, a.Len()>>30)
	}
	images = &npzImages{path: path, n: s[0], h: s[1], w: s[2], c: s[3]}
	return images, each(a, func(v float64) error {
		images.pixels = append(images.pixels, byte(v))
		return nil
	})
}

// maxLabel bounds labels: classes are counted, and are as many as the largest says.
const maxLabel = 1 << 16

func readLabels(f *npz.File, path, name string, n int) (labels []int, err error) {
	a, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, a.Close()) }()
	if len(a.Shape) != 1 || a.Shape[0] != n {
		return nil, fmt.Errorf("%s: array %q has shape %v; labels are one number for each of the %d images", path, name, a.Shape, n)
	}
	return labels, each(a, func(v float64) error {
		if v != float64(int(v)) || v < 0 || v >= maxLabel {
			return fmt.Errorf("%s: array %q has label %g; labels are whole numbers from 0 to %d", path, name, v, maxLabel-1)
		}
		labels = append(labels, int(v))
		return nil
	})
}

// each calls take with every element.
func each(a *npz.Array, take func(v float64) error) error {
	part := make([]float64, min(a.Len(), 1<<16))
	for a.Len() > 0 {
		part = part[:min(a.Len(), int64(len(part)))]
		if err := a.Read(part); err != nil {
			return err
		}
		for _, v := range part {
			if err := take(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *npzImages) Name() string                        { return NPZ + " " + quoted(s.path) }
func (s *npzImages) Len() int                            { return s.n }
func (s *npzImages) Size() (height, width, channels int) { return s.h, s.w, s.c }

func (s *npzImages) Label(index int) int {
	if s.labels == nil {
		return -1
	}
	return s.labels[index]
}

// Fingerprint identifies images and labels.
func (s *npzImages) Fingerprint() string {
	h := sha256.New()
	fmt.Fprintln(h, s.n, s.h, s.w, s.c, s.labels)
	h.Write(s.pixels)
	return fingerprint(s.n, h.Sum(nil))
}

// Read implements Dataset.
func (s *npzImages) Read(dst []float32, index int) error {
	checkRead(s, dst, index)
	for i, v := range s.pixels[index*len(dst):][:len(dst)] {
		dst[i] = unit[v]
	}
	return nil
}
