package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The archive of the binary version.
const (
	CIFAR10URL    = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
	CIFAR10Bytes  = 170_052_171
	CIFAR10SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)

const (
	cifar10FileRecords = 10_000
	cifar10MaxLabel    = 9
)

// cifar10Fix is what to do about files that are missing or damaged.
var cifar10Fix = fmt.Sprintf("run: agrdist data get cifar10 --out DIR, and set data.dir to DIR (or unpack %s there, %d bytes, sha256 %s)",
	CIFAR10URL, CIFAR10Bytes, CIFAR10SHA256)

// openCIFAR10 opens data_batch_1.bin .. data_batch_5.bin and test_batch.bin, as
// the split says, in dir or in its folder cifar-10-batches-bin (the name in the
// archive); or the same of the Python version, whose files have no extension and
// whose folder is cifar-10-batches-py. Every file must have its 10,000 images and
// every label must be 0 to 9.
func openCIFAR10(dir, split string) (*records, error) {
	if split == "" || split == SplitHeldOut {
		split = SplitTrain
	}
	limits := recordLimits{records: cifar10FileRecords, maxLabel: cifar10MaxLabel, fix: cifar10Fix}
	names := cifar10Names(split)
	extension := ".bin"
	for _, at := range []struct{ dir, extension string }{
		{dir, ".bin"}, {filepath.Join(dir, "cifar-10-batches-bin"), ".bin"}, {dir, ""}, {filepath.Join(dir, "cifar-10-batches-py"), ""},
	} {
		if exists(filepath.Join(at.dir, names[0]+at.extension)) {
			dir, extension = at.dir, at.extension
			break
		}
	}
	limits.pickled = extension == ""
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name+extension)
	}
	if !exists(paths[0]) {
		if packed := cifar10Archive(dir); packed != "" {
			return nil, &MissingError{
				Path: packed, Reason: "is packed",
				Fix: fmt.Sprintf("unpack it with: agrdist data get cifar10 --from %q --out DIR, and set data.dir to DIR", packed),
			}
		}
	}
	return openRecords(CIFAR10+" "+split, paths, limits)
}

// cifar10Names are a split's files, without extension.
func cifar10Names(split string) (names []string) {
	if split != SplitTest {
		for i := 1; i <= 5; i++ {
			names = append(names, fmt.Sprintf("data_batch_%d", i))
		}
	}
	if split != SplitTrain {
		names = append(names, "test_batch")
	}
	return names
}

// cifar10Archive finds the archive at or in a directory.
func cifar10Archive(dir string) string {
	for _, path := range []string{dir, filepath.Join(dir, "cifar-10-binary.tar.gz"), filepath.Join(dir, "cifar-10-python.tar.gz")} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && strings.HasSuffix(path, ".gz") {
			return path
		}
	}
	return ""
}

// openRecordsDir opens every *.bin file of dir, in the order of their names.
func openRecordsDir(dir string) (*records, error) {
	const fix = "set data.dir to a directory of *.bin files in CIFAR-10's record format (a label byte, then 32x32 bytes each of red, green and blue)"
	if !isDir(dir) {
		return nil, &MissingError{Path: dir, Fix: fix}
	}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, &MissingError{Path: dir, Fix: fix, Err: err}
	}
	var paths []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".bin" {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, &MissingError{Path: filepath.Join(dir, "*.bin"), Fix: fix}
	}
	return openRecords(Records, paths, recordLimits{
		maxLabel: 255, fix: "rewrite the file: records of 3073 bytes, a label byte, then 32x32 bytes each of red, green and blue",
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
