//go:build !linux

package sharedmem

import (
	"errors"
	"fmt"
)

// Memory is a block of this process; there are none on this system.
type Memory struct{}

// Alloc fails with errors.ErrUnsupported.
func Alloc(int) (*Memory, error) {
	return nil, fmt.Errorf("sharedmem: memory that other processes can read: %w", errors.ErrUnsupported)
}

func (m *Memory) ID() uint32     { return 0 }
func (m *Memory) Bytes() []byte  { return nil }
func (m *Memory) Ticket() Ticket { return Ticket{} }
func (m *Memory) Free()          {}

// Find finds nothing.
func Find([]float32) (m *Memory, off uint64, ok bool) { return nil, 0, false }

// View is a block of another process; there are none on this system.
type View struct{}

// Open fails with errors.ErrUnsupported.
func Open(Ticket) (*View, error) {
	return nil, fmt.Errorf("sharedmem: memory of another process: %w", errors.ErrUnsupported)
}

func (v *View) Bytes() []byte { return nil }
func (v *View) Close()        {}
