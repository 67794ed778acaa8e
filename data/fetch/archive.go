package fetch

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/google/renameio/v2"
)

// eachFile reads a tar.gz and calls take with every regular file's name and
// contents. take reads as much as it likes.
func eachFile(archive string, take func(name string, size int64, r io.Reader) error) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory; give the archive (.tar.gz, .tgz)", archive)
	}
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s is no tar.gz: %w", archive, err)
	}
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			// gzip's checksum stands at the very end, behind tar's padding.
			if _, err = io.Copy(io.Discard, unzipped); err != nil { //nolint:gosec // it is thrown away, whatever its size
				return fmt.Errorf("%s is damaged: %w", archive, err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s is damaged: %w", archive, err)
		}
		if h.Typeflag == tar.TypeReg {
			if err := take(path.Clean(h.Name), h.Size, files); err != nil {
				return err
			}
		}
	}
}

// writeFile writes what a reader holds to a file, whole or not at all.
func writeFile(name string, r io.Reader) error {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // nothing, once it has its name
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return f.CloseAtomicallyReplace()
}
