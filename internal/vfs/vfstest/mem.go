package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/agrdist/agrdist/internal/vfs"
)

// Mem is a file system in memory that knows what is durable: the data of a file
// since its last Sync, the names in a directory since its last SyncDir.
type Mem struct {
	mu   sync.Mutex
	root *node
}

var _ vfs.FS = (*Mem)(nil)

// NewMem returns an empty file system.
func NewMem() *Mem { return &Mem{root: newDir()} }

// A node is a directory (entries != nil) or a file.
type node struct {
	entries map[string]*node // as the running system sees it
	durable map[string]*node // as the disk has it for sure
	pending []change         // what leads from durable to entries, in order
	data    []byte
	synced  []byte
	locked  bool
}

// A change takes one name away, puts one there, or both: a rename.
type change struct {
	del, add string
	n        *node
}

func newDir() *node { return &node{entries: map[string]*node{}, durable: map[string]*node{}} }

func (c change) apply(m map[string]*node) {
	if c.del != "" {
		delete(m, c.del)
	}
	if c.add != "" {
		m[c.add] = c.n
	}
}

// replaces tells whether n may be renamed to the name of there.
func (n *node) replaces(there *node) bool {
	if n.entries == nil || there.entries == nil {
		return n.entries == nil && there.entries == nil
	}
	return len(there.entries) == 0
}

func (n *node) change(c change) {
	c.apply(n.entries)
	n.pending = append(n.pending, c)
}

// Loss is what a crash does to that which was not synced.
type Loss int

// What a crash does to what was not synced.
const (
	Kept Loss = iota // all of it is there: a process was killed, the machine runs
	Lost             // none of it is there
	Torn             // the names are there; of the data, half, and zeroes after that
)

// Losses are all of them.
var Losses = []Loss{Kept, Lost, Torn}

// String names a loss.
func (l Loss) String() string { return [...]string{"kept", "lost", "torn"}[l] }

// CrashWith returns what a crash of a known kind leaves.
func (m *Mem) CrashWith(loss Loss) *Mem {
	return m.crash(func(unsynced int) int {
		if loss == Lost {
			return 0
		}
		return unsynced
	}, func(n *node) []byte {
		switch {
		case loss == Lost:
			return bytes.Clone(n.synced)
		case loss == Torn && !bytes.Equal(n.data, n.synced):
			data := bytes.Clone(n.data)
			common := 0
			for common < min(len(data), len(n.synced)) && data[common] == n.synced[common] {
				common++
			}
			clear(data[common+(len(data)-common)/2:])
			return data
		}
		return bytes.Clone(n.data)
	})
}

// Crash returns what a power cut would leave: of every directory the synced
// names and some first part of the later changes, of every file the synced data
// and some of the later data, cut short or zero. The rand decides.
func (m *Mem) Crash(r *rand.Rand) *Mem {
	return m.crash(func(unsynced int) int { return r.IntN(unsynced + 1) }, func(n *node) []byte {
		data := bytes.Clone(n.data)
		if bytes.Equal(n.data, n.synced) {
			return data
		}
		kept := r.IntN(len(n.data) + 1)
		if bytes.HasPrefix(n.data, n.synced) {
			kept = len(n.synced) + r.IntN(len(n.data)-len(n.synced)+1)
		}
		switch r.IntN(3) {
		case 0: // cut short
			return data[:kept]
		case 1: // the length is there, the blocks are not
			clear(data[kept:])
		case 2: // all of it made it
		}
		return data
	})
}

// crash copies the tree: names says how many of a directory's changes are on the disk,
// data what of a file is.
func (m *Mem) crash(names func(unsynced int) int, data func(*node) []byte) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := map[*node]*node{}
	var visit func(n *node) *node
	visit = func(n *node) *node {
		if c := done[n]; c != nil {
			return c
		}
		c := &node{}
		done[n] = c
		if n.entries == nil {
			c.data = data(n)
			c.synced = bytes.Clone(c.data)
			return c
		}
		now := maps.Clone(n.durable)
		for _, p := range n.pending[:names(len(n.pending))] {
			p.apply(now)
		}
		c.entries = map[string]*node{}
		for _, name := range slices.Sorted(maps.Keys(now)) {
			c.entries[name] = visit(now[name])
		}
		c.durable = maps.Clone(c.entries)
		return c
	}
	return &Mem{root: visit(m.root)}
}

func fail(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

var errNotDir, errIsDir = errors.New("not a directory"), errors.New("is a directory")

func (m *Mem) find(op, path string) (*node, error) {
	n := m.root
	for _, part := range split(path) {
		if n.entries == nil {
			return nil, fail(op, path, errNotDir)
		}
		if n = n.entries[part]; n == nil {
			return nil, fail(op, path, fs.ErrNotExist)
		}
	}
	return n, nil
}

func split(path string) []string {
	return strings.FieldsFunc(filepath.Clean(path), func(r rune) bool { return r == filepath.Separator || r == '.' && path == "." })
}

func (m *Mem) parent(op, path string) (dir *node, name string, err error) {
	dir, err = m.find(op, filepath.Dir(path))
	if err == nil && dir.entries == nil {
		err = fail(op, path, errNotDir)
	}
	return dir, filepath.Base(path), err
}

func (m *Mem) add(op, path string, n *node) error {
	dir, name, err := m.parent(op, path)
	if err != nil {
		return err
	}
	if dir.entries[name] != nil {
		return fail(op, path, fs.ErrExist)
	}
	dir.change(change{add: name, n: n})
	return nil
}

// MkdirAll implements vfs.FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(dir) {
		if n.entries == nil {
			return fail("mkdir", dir, errNotDir)
		}
		if n.entries[part] == nil {
			n.change(change{add: part, n: newDir()})
		}
		n = n.entries[part]
	}
	return nil
}

// Mkdir implements vfs.FS.
func (m *Mem) Mkdir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add("mkdir", dir, newDir())
}

// Create implements vfs.FS.
func (m *Mem) Create(path string) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &node{}
	if err := m.add("create", path, n); err != nil {
		return nil, err
	}
	return &memFile{m, n}, nil
}

// Open implements vfs.FS.
func (m *Mem) Open(path string) (vfs.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", path)
	if err != nil {
		return nil, err
	}
	if n.entries != nil {
		return nil, fail("open", path, errIsDir)
	}
	return memReader{bytes.NewReader(bytes.Clone(n.data))}, nil
}

// ReadDir implements vfs.FS.
func (m *Mem) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("readdir", dir)
	if err != nil {
		return nil, err
	}
	if n.entries == nil {
		return nil, fail("readdir", dir, errNotDir)
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

// Exists implements vfs.FS.
func (m *Mem) Exists(path string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.find("lstat", path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Rename implements vfs.FS, within one directory.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parent("rename", from)
	if err != nil {
		return err
	}
	dest, newName, err := m.parent("rename", to)
	if err != nil {
		return err
	}
	switch {
	case dir != dest:
		return fail("rename", to, errors.New("not in the same directory"))
	case dir.entries[name] == nil:
		return fail("rename", from, fs.ErrNotExist)
	}
	if there := dir.entries[newName]; there != nil && !dir.entries[name].replaces(there) {
		return fail("rename", to, fs.ErrExist)
	}
	dir.change(change{del: name, add: newName, n: dir.entries[name]})
	return nil
}

// RemoveAll implements vfs.FS.
func (m *Mem) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parent("remove", path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if n := dir.entries[name]; n != nil {
		n.removeChildren()
		dir.change(change{del: name})
	}
	return nil
}

func (n *node) removeChildren() {
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		n.entries[name].removeChildren()
		n.change(change{del: name})
	}
}

// SyncDir implements vfs.FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("sync", dir)
	if err != nil {
		return err
	}
	n.durable, n.pending = maps.Clone(n.entries), nil
	return nil
}

// LockDir implements vfs.FS.
func (m *Mem) LockDir(dir string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("lock", dir)
	if err != nil {
		return nil, err
	}
	if n.locked {
		return nil, fail("lock", dir, vfs.ErrLocked)
	}
	n.locked = true
	return unlocker{m, n}, nil
}

type unlocker struct {
	m *Mem
	n *node
}

func (u unlocker) Close() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.n.locked = false
	return nil
}

type memFile struct {
	m *Mem
	n *node
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.synced = bytes.Clone(f.n.data)
	return nil
}

func (f *memFile) Close() error { return nil }

type memReader struct{ *bytes.Reader }

func (memReader) Close() error { return nil }
