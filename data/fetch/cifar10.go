package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/data"
)

// Options are where a data set comes from and goes to.
type Options struct {
	Out    string // directory of the data set
	From   string // an archive (for emoji32 also an unpacked package) instead of a download
	Mirror string // URL of the archive, or of the directory it lies in, instead of the usual one

	// Download is how to download; URL, Path, SHA256 and Size are filled in.
	Download Download
	// Note is told what a person should know.
	Note func(text string)
}

// url is where an archive is downloaded from.
func (o Options) url(usual string) string {
	switch name := path.Base(usual); {
	case o.Mirror == "":
		return usual
	case strings.HasSuffix(o.Mirror, ".gz"), strings.HasSuffix(o.Mirror, ".tgz"), strings.HasSuffix(o.Mirror, ".pth"):
		return o.Mirror
	default:
		return strings.TrimSuffix(o.Mirror, "/") + "/" + name
	}
}

// archive downloads an archive into the data set's directory and returns its
// path, or that of the one given.
func (o Options) archive(ctx context.Context, usual, sum string, size int64) (string, error) {
	if o.From == "" {
		d := o.Download
		d.URL, d.Path, d.SHA256, d.Size = o.url(usual), filepath.Join(o.Out, path.Base(usual)), sum, size
		return d.Path, d.Run(ctx)
	}
	got, err := fileSHA256(ctx, o.From)
	if err == nil && got != sum {
		// Packed again, perhaps: gzip's own checksums and what is inside decide.
		o.note("%s is not the archive that is known (its SHA-256 is %s, that one's %s); its contents are checked", o.From, got, sum)
	}
	return o.From, err
}

// File gets a single file that is known by its checksum, and says where it is.
func File(ctx context.Context, o Options, url, sum string, size int64) (string, error) {
	if o.From != "" {
		return o.From, nil
	}
	return o.archive(ctx, url, sum, size)
}

func (o Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// The members of CIFAR-10's two archives, by directory.
var cifar10Members = map[string][]string{
	"cifar-10-batches-bin": {
		"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin", "batches.meta.txt", "readme.html",
	},
	"cifar-10-batches-py": {
		"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch", "batches.meta", "readme.html",
	},
}

const cifar10MaxMember = 40 << 20 // bytes; the files have 31 MB

// CIFAR10 gets CIFAR-10 into a directory that package data opens as cifar10, and
// opens it once. Either archive may be given, the binary or the Python version's.
func CIFAR10(ctx context.Context, o Options) error {
	c := data.Config{Name: data.CIFAR10, Dir: o.Out, Split: data.SplitAll}
	if set, err := data.Open(c); err == nil {
		return data.Close(set) // it is there
	}
	archive, err := o.archive(ctx, data.CIFAR10URL, data.CIFAR10SHA256, data.CIFAR10Bytes)
	if err != nil {
		return err
	}
	found := 0
	err = eachFile(archive, func(name string, size int64, r io.Reader) error {
		dir, file := path.Split(name)
		dir = path.Base(dir)
		if ctx.Err() != nil || !slices.Contains(cifar10Members[dir], file) {
			return context.Cause(ctx)
		}
		if size > cifar10MaxMember {
			return fmt.Errorf("%s: %s has %d bytes, which is no file of CIFAR-10", archive, file, size)
		}
		if err := os.MkdirAll(filepath.Join(o.Out, dir), 0o755); err != nil {
			return err
		}
		found++
		return writeFile(filepath.Join(o.Out, dir, file), r)
	})
	if err != nil {
		return err
	}
	if found == 0 {
		return fmt.Errorf("%s holds no file of CIFAR-10 (cifar-10-batches-bin/data_batch_1.bin, ...)", archive)
	}
	set, err := data.Open(c)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	if o.From == "" { // unpacked and checked
		err = os.Remove(archive)
	}
	return errors.Join(err, data.Close(set))
}
