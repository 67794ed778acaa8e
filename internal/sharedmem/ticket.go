package sharedmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// TicketSize is the length of an encoded Ticket, in bytes.
const TicketSize = 24 + nonceSize

const nonceSize = 32

// headerSize is what a block's file holds before the memory: the nonce, and
// padding up to a page, so that the memory begins on one.
const headerSize = 4096

// Worth is the size from which sharing a vector is worth a file descriptor, in
// bytes.
const Worth = 1 << 20

// maxBytes bounds a block.
const maxBytes = 1 << 40

// ErrTicket says that a ticket does not lead to a block that can be trusted.
var ErrTicket = errors.New("sharedmem: not a block of shared memory")

// Ticket names a block for other processes. Numbers are little endian:
//
//	0    4     8    12   16      24      56
//	+----+-----+----+----+-------+-------+
//	| id | pid | fd | 0  | bytes | nonce |
//	+----+-----+----+----+-------+-------+
type Ticket struct {
	ID    uint32 // never 0, never used twice by a process
	PID   uint32
	FD    uint32
	Bytes uint64
	Nonce [nonceSize]byte
}

// Append appends the encoded ticket to b.
func (t *Ticket) Append(b []byte) []byte {
	le := binary.LittleEndian
	for _, v := range []uint32{t.ID, t.PID, t.FD, 0} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint64(b, t.Bytes)
	return append(b, t.Nonce[:]...)
}

// ParseTicket decodes a ticket. Errors wrap ErrTicket.
func ParseTicket(b []byte) (Ticket, error) {
	if len(b) != TicketSize {
		return Ticket{}, fmt.Errorf("%w: ticket of %d bytes, want %d", ErrTicket, len(b), TicketSize)
	}
	le := binary.LittleEndian
	t := Ticket{
		ID: le.Uint32(b), PID: le.Uint32(b[4:]), FD: le.Uint32(b[8:]), Bytes: le.Uint64(b[16:]),
		Nonce: [nonceSize]byte(b[24:]),
	}
	if t.ID == 0 || int32(t.PID) <= 0 || int32(t.FD) < 0 || le.Uint32(b[12:]) != 0 || t.Bytes == 0 || t.Bytes > maxBytes {
		return Ticket{}, fmt.Errorf("%w: ticket %d for %d bytes in descriptor %d of process %d", ErrTicket, t.ID, t.Bytes, t.FD, t.PID)
	}
	return t, nil
}

// Float32s views the block as floats, as many as fit.
func (m *Memory) Float32s() []float32 {
	b := m.Bytes()
	if len(b) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

// Float32s returns n floats that begin at a byte offset, which must be a
// multiple of 4. Errors wrap ErrTicket.
func (v *View) Float32s(off uint64, n int) ([]float32, error) {
	b := v.Bytes()
	if off%4 != 0 || n < 0 || off > uint64(len(b)) || uint64(n) > (uint64(len(b))-off)/4 {
		return nil, fmt.Errorf("%w: %d floats at byte %d of a block of %d bytes", ErrTicket, n, off, len(b))
	}
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[off])), n), nil
}
