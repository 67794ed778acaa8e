package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/agrdist/agrdist/internal/grid"
)

// sheet is the size of what is sampled.
type sheet struct{ count, size, channels int }

func (s sheet) each() int { return s.size * s.size * s.channels }

// sink takes images in order, batch by batch.
type sink interface {
	// memory is what it needs beside a batch, in bytes.
	memory() int64
	// done is how many images, from the first on, an interrupted command left there.
	done() int
	add(first int, images []float32) error
	// finish puts the result in its place.
	finish() error
	// left says what an interruption leaves.
	left() string
	// abandon closes it, and removes what the same command could not continue; after
	// finish it does nothing.
	abandon()
}

const continues = "the same command continues where it was"

// openSink chooses what --out means by its name and finds out whether it can be
// written, before anything is computed. definition is what the images are a function of.
func openSink(out string, s sheet, definition []byte) (sink, error) {
	if st, err := os.Stat(filepath.Dir(filepath.Clean(out))); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("--out %s: there is no directory %s; make it first", out, filepath.Dir(filepath.Clean(out)))
	}
	st, err := os.Stat(out)
	isDir := err == nil && st.IsDir()
	switch ext := strings.ToLower(filepath.Ext(out)); {
	case isDir, ext == "", strings.HasSuffix(out, string(filepath.Separator)):
		return openDirectory(out, s, definition)
	case ext == ".png":
		g := &gridSink{path: out, sheet: s}
		if g.drawing, err = grid.Bytes(s.count, s.size, s.size, s.channels, grid.Options{}); err != nil {
			return nil, fmt.Errorf("--out %s: %w; --out DIR or FILE.npz writes any number", out, err)
		}
		return g, writable(out)
	case ext == ".npz":
		return openNPZ(out, s, definition)
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
func (g *gridSink) done() int     { return 0 }
func (g *gridSink) left() string  { return "nothing was drawn" }

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

// directorySink writes a PNG an image, named by its index, and beside them what they are a
// function of, so that only the same images are added later.
type directorySink struct {
	dir string
	sheet
	there int // images at the start, without a gap
}

// definitionFile is hidden: it is no image.
const definitionFile = ".agrdist-sample.json"

func openDirectory(dir string, s sheet, definition []byte) (*directorySink, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("--out: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	d := &directorySink{dir: dir, sheet: s}
	mark := filepath.Join(dir, definitionFile)
	found, err := os.ReadFile(mark)
	switch {
	case err == nil && !bytes.Equal(found, definition):
		return nil, fmt.Errorf("--out %s has images of other weights, another sampler, seed or device (%s); choose another directory", dir, definitionFile)
	case err == nil:
		for d.there < s.count {
			if _, err := os.Stat(d.file(d.there)); err != nil {
				break
			}
			d.there++
		}
		return d, writable(filepath.Join(dir, "x"))
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("--out: %w", err)
	case len(names) > 0:
		return nil, fmt.Errorf("--out %s has %q in it; choose another directory or empty it first", dir, names[0].Name())
	}
	if err := renameio.WriteFile(mark, definition, 0o644, renameio.WithTempDir(filepath.Dir(mark))); err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return d, nil
}

func (d *directorySink) file(i int) string { return filepath.Join(d.dir, fmt.Sprintf("%08d.png", i)) }

func (d *directorySink) memory() int64 { return 0 }
func (d *directorySink) done() int     { return d.there }
func (d *directorySink) left() string  { return continues }
func (d *directorySink) finish() error { return nil }
func (d *directorySink) abandon()      {} // images that are there are whole

func (d *directorySink) add(first int, images []float32) error {
	for i := range len(images) / d.each() {
		one := images[i*d.each() : (i+1)*d.each()]
		if err := grid.WriteFile(d.file(first+i), one, 1, d.size, d.size, d.channels, grid.Options{Columns: 1, Gap: -1, Scale: 1}); err != nil {
			return fmt.Errorf("image %d: %w", first+i, err)
		}
	}
	return nil
}
