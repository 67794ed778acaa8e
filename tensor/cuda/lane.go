//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// Lane is a backend's second stream, for the sums of a collective while the
// backend's own operations continue. Its methods belong to the goroutine that calls
// the backend, but for Done. What runs on it is ordered with the backend's
// operations only where Follow and Done say so.
type Lane struct {
	be     *Backend
	stream cu.Stream
	event  cu.Event
	id     string
}

func (l *Lane) open(b *Backend, id string) (err error) {
	l.be, l.id = b, id
	if l.event, err = cu.MakeEvent(cu.DisableTiming); err != nil {
		return fmt.Errorf("cuda: event on %s: %w", b.name, err)
	}
	b.closers = append(b.closers, func() error { return cu.DestroyEvent(&l.event) })
	return nil
}

// Lane returns the backend's lane.
func (b *Backend) Lane() *Lane { return &b.lane }

// ID names the physical device, the same in all processes.
func (l *Lane) ID() string { return l.id }

// Stream is the stream's handle, a CUstream.
func (l *Lane) Stream() uintptr { return uintptr(unsafe.Pointer(l.stream.C())) }

// Pointer is the device address of a buffer of the backend.
func (l *Lane) Pointer(b tensor.Buffer) uintptr { return uintptr(l.be.own("Pointer", b).ptr) }

// Current calls f on a thread on which the device is current.
func (l *Lane) Current(f func() error) error {
	l.be.enter()
	defer l.be.leave()
	return f()
}

// Follow makes the lane wait for what the backend was given so far. The error is
// the backend's first failure.
func (l *Lane) Follow() error {
	b := l.be
	b.enter()
	defer b.leave()
	b.check("record an event", l.event.Record(b.stream))
	b.check("wait for an event", l.stream.Wait(l.event, 0))
	return b.failed
}

// Done reports whether all that was put on the lane has run. It may be called from
// any goroutine.
func (l *Lane) Done() (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cu.SetCurrentContext(l.be.context)
	if err == nil {
		err = l.stream.Query()
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, cu.NotReady):
		return false, nil
	}
	return false, fmt.Errorf("cuda: %s: %w", l.be.name, err)
}

// Alloc is the backend's, for first use on the lane.
func (l *Lane) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	return l.be.allocOn(l.stream, dt, n)
}

// Free gives back a buffer once the lane and the backend are done with it.
func (l *Lane) Free(b tensor.Buffer) {
	l.be.enter()
	defer l.be.leave()
	l.be.counts.waited()
	l.be.check("synchronize", l.stream.Synchronize())
	l.be.Free(b)
}

// Slice returns a view of elements [off, off+n).
func (l *Lane) Slice(b tensor.Buffer, off, n int) tensor.Buffer { return l.be.Slice(b, off, n) }

// Copy is dst = a on the lane.
func (l *Lane) Copy(dst, a tensor.Tensor) { l.be.copyOn(l.stream, dst, a) }

// Fill is dst = v on the lane.
func (l *Lane) Fill(dst tensor.Tensor, v float32) { l.be.fillOn(l.stream, dst, v) }

// Add is dst = x + y on the lane.
func (l *Lane) Add(dst, x, y tensor.Tensor) { l.be.addOn(l.stream, dst, x, y) }
