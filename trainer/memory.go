package trainer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Memory holds the newest copies of the state in a file that outlives the process: memory
// that the node's agent keeps. It is no checkpoint; it is gone with the agent. There are
// two copies, of which one is always whole.
//
//	0                 4096         4096+4n, on the next page     ...
//	+-----------------+------------+-----------------+------------+
//	| header of copy 0| n values   | header of copy 1| n values   |
//	+-----------------+------------+-----------------+------------+
//
// Values are in the machine's byte order: only processes of one host and program read them.
type Memory struct {
	file interface {
		io.ReaderAt
		io.WriterAt
	}
	busy sync.WaitGroup // a copy is on its way
	err  error          // of the last one
}

// NewMemory returns the memory in a file, which may hold copies of an earlier process.
func NewMemory(file interface {
	io.ReaderAt
	io.WriterAt
},
) *Memory {
	return &Memory{file: file}
}

const (
	memoryPage   = 4096
	memoryCopies = 2
	memoryMagic  = uint64(0x0a316d656d726761) // "agrmem1\n"
	memoryHeader = 6*8 + (1+maxMarks)*16 + maxMarks*8 + 8
)

// held is the header of a copy: numbers, digests, and a checksum of both.
type held struct {
	step, updates, inARow int64
	values                int64
	digest                [16]byte // State.digest of the copy
	lineage               []mark
}

func (h held) bytes() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, memoryHeader), memoryMagic)
	for _, v := range []int64{h.step, h.updates, h.inARow, h.values, int64(len(h.lineage))} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, h.digest[:]...)
	for _, m := range h.lineage {
		b = binary.LittleEndian.AppendUint64(b, uint64(m.step))
		b = append(b, m.digest[:]...)
	}
	b = append(b, make([]byte, memoryHeader-8-len(b))...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// parseHeld reads a header that bytes made; false where it is none.
func parseHeld(b []byte) (h held, ok bool) {
	if len(b) != memoryHeader || binary.LittleEndian.Uint64(b) != memoryMagic || binary.LittleEndian.Uint64(b[len(b)-8:]) != xxhash.Sum64(b[:len(b)-8]) {
		return h, false
	}
	var marks int64
	for k, v := range []*int64{&h.step, &h.updates, &h.inARow, &h.values, &marks} {
		*v = int64(binary.LittleEndian.Uint64(b[8+8*k:]))
	}
	if marks < 0 || marks > maxMarks {
		return h, false
	}
	copy(h.digest[:], b[6*8:])
	for b = b[6*8+16:]; marks > 0; marks-- {
		h.lineage = append(h.lineage, mark{int64(binary.LittleEndian.Uint64(b)), [16]byte(b[8:markBytes])})
		b = b[markBytes:]
	}
	return h, true
}

// place is where a copy of so many values begins.
func (m *Memory) place(i int, values int64) int64 {
	each := memoryPage + (4*values+memoryPage-1)/memoryPage*memoryPage
	return int64(i) * each
}

// header reads that of a copy; false where there is none of so many values.
func (m *Memory) header(i int, values int64) (h held, ok bool) {
	b := make([]byte, memoryHeader)
	if _, err := m.file.ReadAt(b, m.place(i, values)); err != nil {
		return h, false
	}
	h, ok = parseHeld(b)
	return h, ok && h.values == values && h.step >= 0
}

func valuesOf(s *State) (n int64) {
	for _, flat := range s.Flats() {
		n += int64(len(flat))
	}
	return n
}

// Keep begins to copy the state, in place of the older copy. The state must not change
// before Wait has returned.
func (m *Memory) Keep(s *State) error {
	m.Wait()
	if m.err != nil {
		return m.err // memory that failed once is not tried again
	}
	if err := s.Pull(); err != nil {
		return err
	}
	n := valuesOf(s)
	oldest, least := 0, int64(-1)
	for i := range memoryCopies {
		h, ok := m.header(i, n)
		if !ok {
			oldest = i
			break
		}
		if least < 0 || h.step < least {
			oldest, least = i, h.step
		}
	}
	h := held{step: s.Step, updates: s.Updates, inARow: s.InARow, values: n, lineage: slices.Clone(s.lineage)}
	m.busy.Go(func() { m.err = m.write(m.place(oldest, n), h, s.Flats()) })
	return nil
}

func (m *Memory) write(at int64, h held, flats [][]float32) error {
	// A copy that is half written has no header.
	if _, err := m.file.WriteAt(make([]byte, memoryHeader), at); err != nil {
		return fmt.Errorf("trainer: keep the state in memory: %w", err)
	}
	to := at + memoryPage
	for _, flat := range flats {
		if _, err := m.file.WriteAt(bytesOf(flat), to); err != nil {
			return fmt.Errorf("trainer: keep the state in memory: %w", err)
		}
		to += 4 * int64(len(flat))
	}
	h.digest = fingerprint([]int64{h.step, h.updates, h.inARow}, flats...)
	if _, err := m.file.WriteAt(h.bytes(), at); err != nil {
		return fmt.Errorf("trainer: keep the state in memory: %w", err)
	}
	return nil
}

// Wait returns when no copy is on its way.
func (m *Memory) Wait() {
	if m != nil {
		m.busy.Wait()
	}
}

// Restore takes over the newest copy that is whole and of a step after another one, and
// reports whether there was one. Where there was none, the state's contents are undefined.
func (m *Memory) Restore(s *State, after int64) (bool, error) {
	n := valuesOf(s)
	var copies []int
	var headers [memoryCopies]held
	for i := range memoryCopies {
		if h, ok := m.header(i, n); ok && h.step > after {
			headers[i] = h
			copies = append(copies, i)
		}
	}
	if len(copies) == 2 && headers[copies[1]].step > headers[copies[0]].step {
		copies[0], copies[1] = copies[1], copies[0]
	}
	var damaged error
	for _, i := range copies {
		h, at := headers[i], m.place(i, n)+memoryPage
		for _, flat := range s.Flats() {
			if _, err := m.file.ReadAt(bytesOf(flat), at); err != nil {
				return false, fmt.Errorf("trainer: read the state from memory: %w", err)
			}
			at += 4 * int64(len(flat))
		}
		if fingerprint([]int64{h.step, h.updates, h.inARow}, s.Flats()...) != h.digest {
			damaged = errors.Join(damaged, fmt.Errorf("trainer: the copy of step %d in memory is damaged", h.step))
			continue
		}
		s.Step, s.Updates, s.InARow, s.Generation, s.lineage = h.step, h.updates, h.inARow, 0, h.lineage
		s.Flushed()
		return true, nil
	}
	return false, damaged
}
