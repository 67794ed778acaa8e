package flight

import (
	"bytes"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kind says what a record is about.
type Kind uint8

// Kinds of records.
const (
	Joined  Kind = iota + 1 // the rank entered a generation; Peer is the world size
	Phase                   // it began Name; Bucket is the chunk or bucket
	Begin                   // it entered operation Number, Name, of Bucket
	End                     // that operation is done
	Waits                   // the operation waits for rank Peer
	Failed                  // the operation failed; Peer is at fault, or -1
	Left                    // the generation is over for the rank; Name is why
	kindEnd                 // no kind
)

// Done is the Name of a Left where nothing went wrong.
const Done = "done"

var kinds = [...]string{Joined: "joined", Phase: "phase", Begin: "begin", End: "end", Waits: "waits", Failed: "failed", Left: "left"}

func (k Kind) String() string {
	if k > 0 && k < kindEnd {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Record is one thing that happened. Fields that do not belong to its kind are 0.
type Record struct {
	Time       time.Time // set by Add
	Kind       Kind
	Generation uint64
	Rank, Peer int
	Step       int64  // steps committed before
	Number     uint32 // of the operation, within the generation
	Bucket     int
	Name       string // at most nameLen bytes are kept
}

const (
	nameLen  = 15
	capacity = 16384 // about 7 s of a run of 40 steps a second
)

// slot is a record in the ring. seq is 1 + its index over all time, 0 while it is being
// written.
type slot struct {
	seq        atomic.Uint64
	time       int64
	generation uint64
	step       int64
	rank, peer int32
	number     uint32
	bucket     int32
	kind       Kind
	name       [nameLen]byte
}

// memory is what the file holds.
type memory struct {
	magic [8]byte
	next  atomic.Uint64
	_     [48]byte
	slots [capacity]slot
}

var magic = [8]byte{'a', 'g', 'r', 'f', 'l', 't', '1', '\n'}

const memorySize = int(unsafe.Sizeof(memory{}))

func mapped(f *os.File) (*memory, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("flight: map the ring: %w", err)
	}
	return (*memory)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

func (m *memory) unmap() error {
	return unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(m)), memorySize)) //nolint:wrapcheck // there is nothing to add
}

// Ring is the reader's end.
type Ring struct {
	// File is for the worker; see Open.
	File *os.File
	mem  *memory
}

// Create makes an empty ring in a file without a name: it is gone with its last user.
// The caller must Close it.
func Create() (*Ring, error) {
	dir := "/dev/shm" // memory, on Linux
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = ""
	}
	f, err := os.CreateTemp(dir, "agrdist-flight-*")
	if err != nil && dir != "" {
		f, err = os.CreateTemp("", "agrdist-flight-*")
	}
	if err != nil {
		return nil, fmt.Errorf("flight: %w", err)
	}
	r := &Ring{File: f}
	err = os.Remove(f.Name())
	if err == nil {
		err = f.Truncate(int64(memorySize))
	}
	if err == nil {
		r.mem, err = mapped(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("flight: %w", err)
	}
	r.mem.magic = magic
	return r, nil
}

// Close frees the ring on this side.
func (r *Ring) Close() error {
	err := r.mem.unmap()
	r.mem = nil
	if e := r.File.Close(); err == nil {
		err = e
	}
	return err
}

// Records returns the newest records in order, at most max. It may be called while the
// worker writes: a record that is overwritten meanwhile is left out.
func (r *Ring) Records(most int) []Record {
	end := r.mem.next.Load()
	begin := end - min(end, uint64(min(most, capacity)))
	out := make([]Record, 0, end-begin)
	for i := begin; i < end; i++ {
		s := &r.mem.slots[i%capacity]
		if s.seq.Load() != i+1 {
			continue
		}
		rec := Record{
			Time: time.Unix(0, s.time).UTC(), Kind: s.kind, Generation: s.generation, Rank: int(s.rank), Peer: int(s.peer),
			Step: s.step, Number: s.number, Bucket: int(s.bucket), Name: string(bytes.TrimRight(s.name[:], "\x00")),
		}
		if s.seq.Load() == i+1 {
			out = append(out, rec)
		}
	}
	return out
}

// Recorder is the worker's end. The nil Recorder records nothing.
type Recorder struct{ mem *memory }

// Open returns the recorder of the ring that this process has as file fd; nil where
// that is none.
func Open(fd uintptr) *Recorder {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(memorySize) {
		return nil
	}
	unix.CloseOnExec(int(fd)) // what the worker starts has no part in it
	f := os.NewFile(fd, "flight")
	m, err := mapped(f)
	if err != nil || m.magic != magic {
		return nil
	}
	return &Recorder{m}
}

// Add records what happens now. It allocates nothing and may be called from any
// goroutine.
func (r *Recorder) Add(rec Record) {
	if r == nil {
		return
	}
	i := r.mem.next.Add(1) - 1
	s := &r.mem.slots[i%capacity]
	s.seq.Store(0)
	s.time, s.kind, s.generation, s.step = time.Now().UnixNano(), rec.Kind, rec.Generation, rec.Step
	s.rank, s.peer, s.number, s.bucket = int32(rec.Rank), int32(rec.Peer), rec.Number, int32(rec.Bucket)
	n := copy(s.name[:], rec.Name)
	clear(s.name[n:])
	s.seq.Store(i + 1)
}
