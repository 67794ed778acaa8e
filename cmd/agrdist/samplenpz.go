package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/internal/filelock"
	"github.com/agrdist/agrdist/internal/grid"
)

// npzSink writes the images as numpy reads them: arr_0, uint8, [N, height, width,
// channels]. Until all are there they are collected beside it, in a hidden file that is
// named after what they are a function of: the same command continues it.
type npzSink struct {
	path string
	sheet
	there int // images at the start
	part  *os.File
	b     *bufio.Writer
}

func openNPZ(path string, s sheet, definition []byte) (*npzSink, error) {
	sum := sha256.Sum256(fmt.Append(definition, s.size, s.channels))
	name := "." + filepath.Base(path) + "." + hex.EncodeToString(sum[:6]) + ".part"
	f, err := filelock.Open(filepath.Join(filepath.Dir(path), name))
	switch {
	case errors.Is(err, filelock.ErrLocked):
		return nil, fmt.Errorf("--out %s: another agrdist sample is writing it (%s); wait for it, or choose another file", path, name)
	case err != nil:
		return nil, fmt.Errorf("--out: %w", err)
	}
	n := &npzSink{path: path, sheet: s, part: f}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		n.there = min(int(size/int64(s.each())), s.count)
		err = f.Truncate(int64(n.there) * int64(s.each())) // the last image may be cut off
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--out: %w", err), f.Close())
	}
	n.b = bufio.NewWriter(f)
	return n, nil
}

func (n *npzSink) memory() int64 { return 0 }
func (n *npzSink) done() int     { return n.there }
func (n *npzSink) left() string  { return continues }

func (n *npzSink) add(first int, images []float32) error {
	for i, x := range images {
		v, ok := grid.Byte(x)
		if !ok {
			return fmt.Errorf("image %d has a value that is not a number", first+i/n.each())
		}
		if err := n.b.WriteByte(v); err != nil {
			return fmt.Errorf("%s: %w", n.part.Name(), err)
		}
	}
	if err := n.b.Flush(); err != nil {
		return fmt.Errorf("%s: %w", n.part.Name(), err)
	}
	return nil
}

// finish copies the images into the archive, which appears whole.
func (n *npzSink) finish() (err error) {
	f, err := os.CreateTemp(filepath.Dir(n.path), "."+filepath.Base(n.path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it may be closed
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := n.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	array, err := npz.NewBytes(f, "arr_0", n.count, n.size, n.size, n.channels)
	if err != nil {
		return err
	}
	if _, err := io.Copy(array, n.part); err != nil {
		return err
	}
	if err := errors.Join(array.Close(), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), n.path); err != nil {
		return err
	}
	err = errors.Join(os.Remove(n.part.Name()), n.part.Close()) // in this order: see filelock
	n.part = nil
	return err
}

func (n *npzSink) abandon() {
	if n.part == nil {
		return
	}
	if info, err := n.part.Stat(); err == nil && info.Size() == 0 {
		_ = os.Remove(n.part.Name())
	}
	_ = n.part.Close() // its images were flushed
}
