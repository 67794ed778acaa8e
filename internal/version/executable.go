package version

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// Executable is the SHA-256 of this program's file, in hex: unlike a version, it tells
// a program that somebody has patched or built from changed sources from the one that
// has the same name. It is read once; 40 MB take some 30 ms.
var Executable = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if runtime.GOOS == "linux" {
		path, err = "/proc/self/exe", nil // the file that runs, also where it was replaced since
	}
	if err != nil {
		return "", fmt.Errorf("cannot find this program's file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read this program's file: %w", err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("cannot read this program's file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})
