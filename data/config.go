package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Names of data sets.
const (
	Digits  = "digits"  // 1,797 handwritten digits, 8x8x1, embedded in the program
	CIFAR10 = "cifar10" // 50,000 + 10,000 photographs, 32x32x3, the binary version's files
	Records = "records" // any *.bin files of CIFAR-10 records, 32x32x3
	Folder  = "folder"  // image files below a directory
	NPZ     = "npz"     // an array of NumPy's, uint8 [N, H, W, C], in a file
)

// Splits. SplitTest and SplitAll are cifar10's alone; SplitHeldOut is what
// Config.Holdout takes from the training images.
const (
	SplitTrain   = "train"
	SplitTest    = "test"
	SplitAll     = "all" // train, then test
	SplitHeldOut = "heldout"
)

// Dataset is a collection of images of one size. Implementations are safe for
// concurrent use. One that holds files open also implements io.Closer; see
// Close.
type Dataset interface {
	// Name is for logs: "digits", "cifar10 train".
	Name() string
	// Len is the number of images, at least 1.
	Len() int
	// Size is the shape of every image.
	Size() (height, width, channels int)
	// Read copies image index, 0 <= index < Len, into dst: [H, W, C], values in
	// [-1, 1]. len(dst) is H W C.
	Read(dst []float32, index int) error
	// Label is the class of an image, 0 or more, or -1 when it has none.
	Label(index int) int
}

// Config names a data set.
type Config struct {
	Name  string // Digits, CIFAR10, Records, Folder or NPZ
	Dir   string // where the files are, of NPZ the file; digits needs none
	Split string // SplitTrain, ...; empty is train
	// Holdout is the number of images that SplitTrain leaves out and SplitHeldOut
	// has; see Split. 0: all are trained on.
	Holdout int

	// Height = width in pixels, and channels. folder converts every image to them (1
	// gray, 2 gray and alpha, 3 RGB, 4 RGBA); the other data sets have a size of their
	// own, which these must equal unless they are 0.
	Size, Channels int

	// folder: every image must be in a class, the first folder of its path. (Labels
	// are the classes' positions in the order of their names; without Classes they
	// are there too where every image is in a folder.)
	Classes bool
	// folder: the list of images, from a Scan. Where there is none, Open scans the
	// directory as Verify and Corrupt say; see ScanConfig.
	Index           *Index
	Verify, Corrupt string
	// folder: bytes of decoded images kept in memory (H W C an image). Those
	// read first are kept; the others are decoded at every use.
	CacheBytes int64
}

// DefaultConfig is the embedded digits.
func DefaultConfig() Config {
	return Config{Name: Digits, Split: SplitTrain, CacheBytes: 1 << 30}
}

// Validate reports everything that is wrong without looking at the disk, one
// line each, by the key's name.
func (c Config) Validate() error {
	errs := []error{choice("data.name", c.Name, Digits, CIFAR10, Records, Folder, NPZ)}
	if c.Name != Digits && c.Dir == "" {
		errs = append(errs, fmt.Errorf("data.dir is empty; data.name %s needs the directory that holds it (of npz, the file)", c.Name))
	}
	if c.Split != "" {
		errs = append(errs, choice("the split", c.Split, SplitTrain, SplitTest, SplitAll, SplitHeldOut))
		if c.Split == SplitTest && c.Name != CIFAR10 {
			errs = append(errs, fmt.Errorf("the split is %q; only %s has one (see data.holdout)", c.Split, CIFAR10))
		}
		if (c.Split == SplitTest || c.Split == SplitAll) && c.Holdout != 0 {
			errs = append(errs, fmt.Errorf("the split is %q and data.holdout %d; images are held out of the %s split", c.Split, c.Holdout, SplitTrain))
		}
	}
	if c.Channels < 0 || c.Name == Folder && c.Channels > 4 {
		errs = append(errs, fmt.Errorf("model.in_channels is %d; image files have 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGBA), and data.name npz any number", c.Channels))
	}
	if c.Size < 0 || c.Size > maxSide {
		errs = append(errs, fmt.Errorf("image size is %d; it must be 1 to %d", c.Size, maxSide))
	}
	if c.Name == Folder && (c.Size == 0 || c.Channels == 0) {
		errs = append(errs, errors.New("data.name folder needs the size and the channels to convert its images to"))
	}
	if c.Verify != "" {
		errs = append(errs, choice("data.verify", c.Verify, VerifyAuto, VerifyHeader, VerifyFull))
	}
	if c.Corrupt != "" {
		errs = append(errs, choice("data.corrupt", c.Corrupt, CorruptRefuse, CorruptSkip))
	}
	if c.CacheBytes < 0 {
		errs = append(errs, fmt.Errorf("cache is %d bytes; it must be 0 or more", c.CacheBytes))
	}
	return errors.Join(errs...)
}

// Open opens a data set. What it cannot find is a *MissingError, what it cannot
// read a *CorruptError; both say in one line what is wrong, where, and how to
// fix it.
func Open(c Config) (Dataset, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d, err := open(c)
	if err != nil {
		return nil, err
	}
	height, width, channels := d.Size()
	if c.Size != 0 && height != width {
		return nil, errors.Join(fmt.Errorf("%s has images of %dx%d pixels; a model's are squares: crop them first", d.Name(), width, height), Close(d))
	}
	if (c.Size != 0 && c.Size != height) || (c.Channels != 0 && c.Channels != channels) {
		err := fmt.Errorf("%s has images of size %d with %d channels, not of size %d with %d: set model.sample_size %d and model.in_channels %d",
			d.Name(), height, channels, c.Size, c.Channels, height, channels)
		return nil, errors.Join(err, Close(d))
	}
	return c.part(d)
}

func open(c Config) (Dataset, error) {
	switch c.Name {
	case CIFAR10:
		return openCIFAR10(c.Dir, c.Split)
	case Records:
		return openRecordsDir(c.Dir)
	case Folder:
		return openFolder(c)
	case NPZ:
		return openNPZ(c.Dir)
	default:
		return openDigits()
	}
}

// Close releases what a data set holds open, if anything.
func Close(d Dataset) error {
	if closer, ok := d.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// Verify reads every image and returns the first failure. It stops when ctx is
// done.
func Verify(ctx context.Context, d Dataset) error {
	height, width, channels := d.Size()
	image := make([]float32, height*width*channels)
	for i := range d.Len() {
		if ctx.Err() != nil {
			return fmt.Errorf("verifying %s: %w", d.Name(), context.Cause(ctx))
		}
		if err := d.Read(image, i); err != nil {
			return fmt.Errorf("%s: image %d: %w", d.Name(), i, err)
		}
	}
	return nil
}

// choice is nil when value is one of the allowed ones.
func choice(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s is %q; choose one of %s", key, value, strings.Join(allowed, ", "))
}

// checkRead panics on a programmer's error in the arguments of Read.
func checkRead(d Dataset, dst []float32, index int) {
	height, width, channels := d.Size()
	if len(dst) != height*width*channels {
		panic(fmt.Sprintf("data: destination of %d elements for an image of %dx%dx%d", len(dst), height, width, channels))
	}
	if index < 0 || index >= d.Len() {
		panic(fmt.Sprintf("data: image %d of %d", index, d.Len()))
	}
}

// unit maps a byte to [-1, 1]: 0 is -1, 255 is 1.
var unit = func() (table [256]float32) {
	for v := range table {
		table[v] = float32(v)/127.5 - 1
	}
	return table
}()
