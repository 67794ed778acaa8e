package vfstest

import (
	"io"
	"sync/atomic"

	"github.com/agrdist/agrdist/internal/vfs"
)

// Call is one call on a file system, before it is made.
type Call struct {
	N    int64  // counts from 0
	Op   string // "mkdir", "create", "write", "sync", "rename", ...
	Path string
}

// Hooked passes every call to Hook first; an error from it is the call's. A
// failing write writes the first half, as a full disk does.
type Hooked struct {
	FS   vfs.FS
	Hook func(Call) error

	n atomic.Int64
}

var _ vfs.FS = (*Hooked)(nil)

func (h *Hooked) call(op, path string) error {
	return h.Hook(Call{h.n.Add(1) - 1, op, path})
}

// Calls returns the number of calls so far.
func (h *Hooked) Calls() int64 { return h.n.Load() }

// MkdirAll implements vfs.FS.
func (h *Hooked) MkdirAll(dir string) error {
	if err := h.call("mkdirall", dir); err != nil {
		return err
	}
	return h.FS.MkdirAll(dir)
}

// Mkdir implements vfs.FS.
func (h *Hooked) Mkdir(dir string) error {
	if err := h.call("mkdir", dir); err != nil {
		return err
	}
	return h.FS.Mkdir(dir)
}

// Create implements vfs.FS.
func (h *Hooked) Create(path string) (vfs.File, error) {
	if err := h.call("create", path); err != nil {
		return nil, err
	}
	f, err := h.FS.Create(path)
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, h, path}, nil
}

// Open implements vfs.FS.
func (h *Hooked) Open(path string) (vfs.Reader, error) {
	if err := h.call("open", path); err != nil {
		return nil, err
	}
	f, err := h.FS.Open(path)
	if err != nil {
		return nil, err
	}
	return &hookedReader{f, h, path}, nil
}

// ReadDir implements vfs.FS.
func (h *Hooked) ReadDir(dir string) ([]string, error) {
	if err := h.call("readdir", dir); err != nil {
		return nil, err
	}
	return h.FS.ReadDir(dir)
}

// Exists implements vfs.FS.
func (h *Hooked) Exists(path string) (bool, error) {
	if err := h.call("exists", path); err != nil {
		return false, err
	}
	return h.FS.Exists(path)
}

// Rename implements vfs.FS.
func (h *Hooked) Rename(from, to string) error {
	if err := h.call("rename", from); err != nil {
		return err
	}
	return h.FS.Rename(from, to)
}

// RemoveAll implements vfs.FS.
func (h *Hooked) RemoveAll(path string) error {
	if err := h.call("removeall", path); err != nil {
		return err
	}
	return h.FS.RemoveAll(path)
}

// SyncDir implements vfs.FS.
func (h *Hooked) SyncDir(dir string) error {
	if err := h.call("syncdir", dir); err != nil {
		return err
	}
	return h.FS.SyncDir(dir)
}

// LockDir implements vfs.FS.
func (h *Hooked) LockDir(dir string) (io.Closer, error) {
	if err := h.call("lockdir", dir); err != nil {
		return nil, err
	}
	return h.FS.LockDir(dir)
}

type hookedFile struct {
	f    vfs.File
	h    *Hooked
	path string
}

func (f *hookedFile) Write(p []byte) (int, error) {
	if err := f.h.call("write", f.path); err != nil {
		n, _ := f.f.Write(p[:len(p)/2])
		return n, err
	}
	return f.f.Write(p)
}

func (f *hookedFile) Sync() error {
	if err := f.h.call("sync", f.path); err != nil {
		return err
	}
	return f.f.Sync()
}

// Close closes the file even if the hook fails, as the operating system does.
func (f *hookedFile) Close() error {
	err := f.h.call("close", f.path)
	if cerr := f.f.Close(); err == nil {
		err = cerr
	}
	return err
}

type hookedReader struct {
	vfs.Reader
	h    *Hooked
	path string
}

func (f *hookedReader) Read(p []byte) (int, error) {
	if err := f.h.call("read", f.path); err != nil {
		return 0, err
	}
	return f.Reader.Read(p)
}
