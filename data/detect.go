package data

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Detect finds out what a path holds, by names alone: CIFAR-10 in one of its
// versions, record files, an .npz file, or else a folder of images. The name of the embedded
// data set stands for itself.
func Detect(path string) (Config, error) {
	if path == Digits && !exists(path) {
		return DefaultConfig(), nil
	}
	c := Config{Dir: path, Split: SplitTrain, CacheBytes: DefaultConfig().CacheBytes}
	for _, inner := range []string{"", "cifar-10-batches-bin", "cifar-10-batches-py"} {
		dir := filepath.Join(path, inner)
		if exists(filepath.Join(dir, "data_batch_1.bin")) || exists(filepath.Join(dir, "data_batch_1")) {
			c.Name = CIFAR10
			return c, nil
		}
	}
	if cifar10Archive(path) != "" {
		c.Name = CIFAR10 // whose Open says how to unpack it
		return c, nil
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && strings.EqualFold(filepath.Ext(path), ".npz") {
		c.Name = NPZ
		return c, nil
	}
	if err != nil || !info.IsDir() {
		return c, &MissingError{Path: path, Fix: fixFolder, Err: missing(err), Reason: map[bool]string{true: "is no directory"}[err == nil]}
	}
	c.Name = Folder
	records := false
	err = filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // the scan says what cannot be read
		case name != path && e.IsDir(): // records lie in the directory itself
			return fs.SkipDir
		case strings.HasSuffix(name, ".bin"):
			records = true
		case e.Type().IsRegular() && imageName(name) == imageExtension:
			return errImages
		}
		return nil
	})
	if records && !errors.Is(err, errImages) {
		c.Name = Records
	}
	return c, nil
}

var errImages = errors.New("an image")
