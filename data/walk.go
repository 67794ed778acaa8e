package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// walk lists the files below a directory.
//
// Links to files and directories are followed. Every directory is read once,
// however many links lead to it: that cuts loops, and no image comes twice.
// Directories inside the tree are read before links are followed, so that a
// directory goes by its own name where it has one. What is listed depends on the
// tree alone, not on the order in which the system returns names.
type walk struct {
	root    string
	files   []string // slash-separated, relative to root; regular files that may be images
	skipped []Skip
	seen    map[string]bool // real paths of directories that were read
	links   []string        // links to directories, to be followed
}

// maxWalk bounds the directories of a tree.
const maxWalk = 10_000_000

func walkTree(ctx context.Context, root string, found func(files int)) (*walk, error) {
	w := &walk{root: root, seen: map[string]bool{}}
	queue := []string{"."}
	for len(queue) > 0 || len(w.links) > 0 {
		if len(queue) == 0 {
			slices.Sort(w.links)
			queue, w.links = w.links, nil
		}
		dir := queue[0]
		queue = queue[1:]
		if ctx.Err() != nil {
			return nil, fmt.Errorf("listing %s: %w", quoted(root), context.Cause(ctx))
		}
		if len(w.seen) >= maxWalk {
			return nil, fmt.Errorf("listing %s: more than %d directories", quoted(root), maxWalk)
		}
		below, err := w.directory(dir)
		if err != nil {
			return nil, err
		}
		queue = append(queue, below...)
		found(len(w.files))
	}
	// Whole paths in byte order are the same list on every system.
	slices.Sort(w.files)
	return w, nil
}

// at is a path for the system.
func (w *walk) at(name string) string { return filepath.Join(w.root, filepath.FromSlash(name)) }

func (w *walk) skip(name string, reason Reason, detail string) {
	w.skipped = append(w.skipped, Skip{Path: name, Reason: reason, Detail: detail})
}

// directory reads one directory and returns those below it.
func (w *walk) directory(dir string) (below []string, err error) {
	target, err := filepath.EvalSymlinks(w.at(dir))
	if err == nil {
		if w.seen[target] {
			w.skip(dir, SkipSeen, "is "+quoted(target))
			return nil, nil
		}
		w.seen[target] = true
	}
	entries, err := os.ReadDir(w.at(dir))
	if err != nil {
		if dir == "." {
			return nil, fmt.Errorf("listing %s: %w", quoted(w.root), plain(err))
		}
		w.skip(dir, SkipDirectory, plain(err).Error())
	}
	for _, e := range entries { // sorted; of a directory that fails half-way, what was read
		name := path.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			w.skip(name, SkipHidden, "")
			continue
		}
		switch kind := e.Type(); {
		case kind.IsDir():
			below = append(below, name)
		case kind&fs.ModeSymlink != 0:
			w.link(name)
		default:
			w.file(name, kind)
		}
	}
	return below, nil
}

// link looks at what a link leads to.
func (w *walk) link(name string) {
	info, err := os.Stat(w.at(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if imageName(name) != notImageName {
			w.skip(name, SkipDangling, "the link leads nowhere")
		} else {
			w.skip(name, SkipOther, path.Ext(name))
		}
	case err != nil: // a loop of links, no permission on the way
		w.skip(name, SkipDangling, plain(err).Error())
	case info.IsDir():
		w.links = append(w.links, name)
	default:
		w.file(name, info.Mode().Type())
	}
}

// file takes a regular file by its name. What is none is never opened: reading
// from a pipe or a device may wait for ever.
func (w *walk) file(name string, kind fs.FileMode) {
	switch {
	case imageName(name) == notImageName:
		w.skip(name, SkipOther, path.Ext(name))
	case kind != 0:
		w.skip(name, SkipSpecial, kindOf(kind))
	default:
		w.files = append(w.files, name)
	}
}

func kindOf(kind fs.FileMode) string {
	switch {
	case kind&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case kind&fs.ModeSocket != 0:
		return "a socket"
	case kind&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}

type nameKind int

const (
	notImageName nameKind = iota
	anyName               // no extension: the contents decide
	imageExtension
)

// imageName says what a file's name promises. An extension of an image format
// that is not read counts as an image's, so that such files are named and not
// passed over in silence.
func imageName(name string) nameKind {
	switch strings.ToLower(path.Ext(name)) {
	case "":
		return anyName
	case ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff":
		return imageExtension
	case ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".psd", ".svg", ".ico",
		".exr", ".hdr", ".qoi", ".tga", ".cr2", ".nef", ".arw", ".dng":
		return imageExtension
	}
	return notImageName
}
