package sharedmem

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"os"
	"sort"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seals: nobody can resize the file, map it for writing from now on, or take
// the seals off. F_SEAL_FUTURE_WRITE needs Linux 5.1.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL

// Memory is a block of this process.
type Memory struct {
	id    uint32
	file  *os.File
	nonce [nonceSize]byte
	mem   []byte // header and block
}

// blocks are this process's, by address: there is one address space.
var blocks struct {
	sync.RWMutex
	last   uint32
	sorted []*Memory
}

// Alloc returns a zeroed block of n > 0 bytes that begins on a page. The caller
// must Free it.
func Alloc(n int) (*Memory, error) {
	if n <= 0 || n > maxBytes {
		return nil, fmt.Errorf("sharedmem: block of %d bytes", n)
	}
	fd, err := unix.MemfdCreate("agrdist-vector", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("sharedmem: memfd_create: %w", err)
	}
	m := &Memory{file: os.NewFile(uintptr(fd), "agrdist-vector")}
	if m.mem, err = provide(fd, headerSize+n); err != nil {
		_ = m.file.Close()
		return nil, err
	}
	_, _ = rand.Read(m.nonce[:]) // never fails
	copy(m.mem, m.nonce[:])
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Munmap(m.mem)
		_ = m.file.Close()
		return nil, fmt.Errorf("sharedmem: seal: %w", err)
	}
	blocks.Lock()
	defer blocks.Unlock()
	blocks.last++ // 2^32 blocks outlast any run
	m.id = blocks.last
	i := sort.Search(len(blocks.sorted), func(i int) bool { return blocks.sorted[i].begin() > m.begin() })
	blocks.sorted = append(blocks.sorted, nil)
	copy(blocks.sorted[i+1:], blocks.sorted[i:])
	blocks.sorted[i] = m
	return m, nil
}

// provide gives a file its size and maps it for writing.
func provide(fd, size int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("sharedmem: block of %d bytes: %w", size, err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("sharedmem: map %d bytes: %w", size, err)
	}
	return mem, nil
}

func (m *Memory) begin() uintptr { return uintptr(unsafe.Pointer(&m.mem[0])) }

// ID names the block in this process: Ticket().ID.
func (m *Memory) ID() uint32 { return m.id }

// Bytes is the block.
func (m *Memory) Bytes() []byte { return m.mem[headerSize:] }

// Ticket names the block for other processes. It is worth nothing after Free.
func (m *Memory) Ticket() Ticket {
	return Ticket{
		ID: m.id, PID: uint32(os.Getpid()), FD: uint32(m.file.Fd()),
		Bytes: uint64(len(m.mem) - headerSize), Nonce: m.nonce,
	}
}

// Free gives the block back; nothing of this process may touch it any more.
// Views of other processes live on. Freeing twice does nothing.
func (m *Memory) Free() {
	blocks.Lock()
	defer blocks.Unlock()
	for i, b := range blocks.sorted {
		if b == m {
			blocks.sorted = append(blocks.sorted[:i], blocks.sorted[i+1:]...)
			_ = unix.Munmap(m.mem)
			_ = m.file.Close()
			return
		}
	}
}

// Find returns the block that a vector lies in and its byte offset there.
func Find(v []float32) (m *Memory, off uint64, ok bool) {
	if len(v) == 0 {
		return nil, 0, false
	}
	p := uintptr(unsafe.Pointer(&v[0]))
	blocks.RLock()
	defer blocks.RUnlock()
	i := sort.Search(len(blocks.sorted), func(i int) bool { return blocks.sorted[i].begin() > p }) - 1
	if i < 0 {
		return nil, 0, false
	}
	m = blocks.sorted[i]
	from := p - m.begin()
	if from < headerSize || from+4*uintptr(len(v)) > uintptr(len(m.mem)) {
		return nil, 0, false
	}
	return m, uint64(from - headerSize), true
}

// View is a block of another process, for reading.
type View struct {
	once sync.Once
	mem  []byte
}

// Open maps the block of a ticket. Errors wrap ErrTicket, or say why the kernel
// refuses. The caller must Close the view.
func Open(t Ticket) (*View, error) {
	path := fmt.Sprintf("/proc/%d/fd/%d", t.PID, t.FD)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("sharedmem: open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	has, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	var stat unix.Stat_t
	if err != nil || has&seals != seals || unix.Fstat(fd, &stat) != nil || stat.Size-headerSize != int64(t.Bytes) {
		return nil, fmt.Errorf("%w: %s has other seals or another size", ErrTicket, path)
	}
	mem, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("sharedmem: map %s: %w", path, err)
	}
	if subtle.ConstantTimeCompare(mem[:nonceSize], t.Nonce[:]) != 1 {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("%w: %s is another block", ErrTicket, path)
	}
	return &View{mem: mem}, nil
}

// Bytes is the block; it must not be written.
func (v *View) Bytes() []byte { return v.mem[headerSize:] }

// Close ends the view; nothing may touch it any more.
func (v *View) Close() { v.once.Do(func() { _ = unix.Munmap(v.mem) }) }
