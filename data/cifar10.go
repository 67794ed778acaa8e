package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// cifar10Mend is what to do about files that are missing or damaged.
var cifar10Mend = fmt.Sprintf("get %s (%d bytes, sha256 %s), unpack it and set data.dir to where its data_batch_1.bin is",
	CIFAR10URL, CIFAR10Bytes, CIFAR10SHA256)

// openCIFAR10 opens data_batch_1.bin .. data_batch_5.bin and test_batch.bin, as
// the split says, in dir or in its folder cifar-10-batches-bin (the name in the
// archive). Every file must have its 10,000 records and every label must be 0
// to 9.
func openCIFAR10(dir, split string) (*records, error) {
	if split == "" {
		split = SplitTrain
	}
	var names []string
	if split != SplitTest {
		for i := 1; i <= 5; i++ {
			names = append(names, fmt.Sprintf("data_batch_%d.bin", i))
		}
	}
	if split != SplitTrain {
		names = append(names, "test_batch.bin")
	}
	if _, err := os.Stat(filepath.Join(dir, names[0])); errors.Is(err, fs.ErrNotExist) {
		if inner := filepath.Join(dir, "cifar-10-batches-bin"); isDir(inner) {
			dir = inner
		}
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name)
	}
	return openRecords(CIFAR10+" "+split, paths, recordLimits{
		records: cifar10FileRecords, maxLabel: cifar10MaxLabel, mend: cifar10Mend,
	})
}

// openRecordsDir opens every *.bin file of dir, in the order of their names.
func openRecordsDir(dir string) (*records, error) {
	const mend = "set data.dir to a directory of *.bin files in CIFAR-10's record format (a label byte, then 32x32 bytes each of red, green and blue)"
	if !isDir(dir) {
		return nil, &MissingError{Path: dir, Mend: mend}
	}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, &MissingError{Path: dir, Mend: mend, Err: err}
	}
	var paths []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".bin" {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, &MissingError{Path: filepath.Join(dir, "*.bin"), Mend: mend}
	}
	return openRecords(Records, paths, recordLimits{
		maxLabel: 255, mend: "write the file again: records of 3073 bytes, a label byte, then 32x32 bytes each of red, green and blue",
	})
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
