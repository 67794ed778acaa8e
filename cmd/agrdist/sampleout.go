package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/internal/grid"
)

// sheet is the size of what is sampled.
type sheet struct{ count, size, channels int }

func (s sheet) each() int { return s.size * s.size * s.channels }

// sink takes images in order, batch by batch.
type sink interface {
	// memory is what it needs beside a batch, in bytes.
	memory() int64
	add(first int, images []float32) error
	// finish puts the result in its place.
	finish() error
	// abandon removes what is not finished; after finish it does nothing.
	abandon()
}

// openSink chooses what --out means by its name and finds out whether it can be
// written, before anything is computed.
func openSink(out string, s sheet) (sink, error) {
	if st, err := os.Stat(filepath.Dir(filepath.Clean(out))); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("--out %s: there is no directory %s; make it first", out, filepath.Dir(filepath.Clean(out)))
	}
	st, err := os.Stat(out)
	isDir := err == nil && st.IsDir()
	switch ext := strings.ToLower(filepath.Ext(out)); {
	case isDir, ext == "", strings.HasSuffix(out, string(filepath.Separator)):
		return openDirectory(out, s)
	case ext == ".png":
		g := &gridSink{path: out, sheet: s}
		if g.drawing, err = grid.Bytes(s.count, s.size, s.size, s.channels, grid.Options{}); err != nil {
			return nil, fmt.Errorf("--out %s: %w; --out DIR or FILE.npz writes any number", out, err)
		}
		return g, writable(out)
	case ext == ".npz":
		return openNPZ(out, s)
	default:
		return nil, &usageError{fmt.Errorf("--out %s: %q is no format that can be written; give FILE.png (a grid), FILE.npz (arr_0, uint8) or a directory (a PNG each)", out, ext)}
	}
}

// writable finds out whether a file can be put beside path.
func writable(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".agrdist-*.tmp")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// gridSink keeps all images and draws them at the end.
type gridSink struct {
	path string
	sheet
	drawing int64
	images  []float32
}

func (g *gridSink) memory() int64 { return 4*int64(g.count)*int64(g.each()) + g.drawing }
func (g *gridSink) abandon()      {}

func (g *gridSink) add(_ int, images []float32) error {
	if g.images == nil {
		g.images = make([]float32, 0, g.count*g.each())
	}
	g.images = append(g.images, images...)
	return nil
}

func (g *gridSink) finish() error {
	return grid.WriteFile(g.path, g.images, g.count, g.size, g.size, g.channels, grid.Options{})
}

// directorySink writes a PNG an image, named by its index.
type directorySink struct {
	dir string
	sheet
}

func openDirectory(dir string, s sheet) (*directorySink, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("--out: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("--out %s has %q in it; choose another directory or empty it first", dir, names[0].Name())
	}
	return &directorySink{dir, s}, writable(filepath.Join(dir, "x"))
}

func (d *directorySink) memory() int64 { return 0 }
func (d *directorySink) finish() error { return nil }
func (d *directorySink) abandon()      {} // images that are there are whole

func (d *directorySink) add(first int, images []float32) error {
	for i := range len(images) / d.each() {
		path := filepath.Join(d.dir, fmt.Sprintf("%08d.png", first+i))
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		one := images[i*d.each() : (i+1)*d.each()]
		err = grid.Write(f, one, 1, d.size, d.size, d.channels, grid.Options{Columns: 1, Gap: -1, Scale: 1})
		if err := errors.Join(err, f.Close()); err != nil {
			return errors.Join(fmt.Errorf("image %d: %w", first+i, err), os.Remove(path))
		}
	}
	return nil
}

// npzSink writes the images as numpy reads them: arr_0, uint8, [N, height, width, channels].
type npzSink struct {
	path string
	sheet
	f     *os.File
	array *npz.Bytes
	done  bool
}

func openNPZ(path string, s sheet) (*npzSink, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	n := &npzSink{path: path, sheet: s, f: f}
	if n.array, err = npz.NewBytes(f, "arr_0", s.count, s.size, s.size, s.channels); err != nil {
		n.abandon()
		return nil, err
	}
	return n, nil
}

func (n *npzSink) memory() int64 { return 0 }

func (n *npzSink) add(first int, images []float32) error {
	b := make([]byte, len(images))
	for i, x := range images {
		var ok bool
		if b[i], ok = grid.Byte(x); !ok {
			return fmt.Errorf("image %d has a value that is not a number", first+i/n.each())
		}
	}
	_, err := n.array.Write(b)
	return err
}

func (n *npzSink) finish() error {
	err := errors.Join(n.array.Close(), n.f.Chmod(0o644), n.f.Sync(), n.f.Close())
	if err == nil {
		err = os.Rename(n.f.Name(), n.path)
	}
	n.done = err == nil
	return err
}

func (n *npzSink) abandon() {
	if !n.done {
		_ = n.f.Close() // it may be closed
		_ = os.Remove(n.f.Name())
	}
}
