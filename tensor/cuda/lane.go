//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/tensor"
)

// Lane is a backend's second stream, for the sums of a collective while the
// backend's own operations continue. What runs on it is ordered with the backend's
// operations only where Mark and Done say so. Mark and Free belong to the goroutine that
// calls the backend; the other methods may be called from any, and share neither
// arguments nor a first failure with the backend.
type Lane struct {
	be *Backend
	id string

	mu sync.Mutex // of the queue
	queue

	marks struct {
		sync.Mutex
		spare, all []cu.Event
	}
}

func (l *Lane) open(b *Backend, id string) {
	l.be, l.id, l.name, l.context = b, id, b.name, b.context
	b.closers = append(b.closers, func() error {
		var errs []error
		for i := range l.marks.all {
			errs = append(errs, cu.DestroyEvent(&l.marks.all[i]))
		}
		return errors.Join(errs...)
	})
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
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(l.context); err != nil {
		return fmt.Errorf("cuda: %s: make the context current: %w", l.name, err)
	}
	return f()
}

// Mark notes what the backend was given so far; follow, to be called once, makes the lane
// wait for it. The error is the backend's first failure, that of follow the lane's.
func (l *Lane) Mark() (follow func() error, err error) {
	b := l.be
	b.enter()
	defer b.leave()
	event, err := l.event()
	if err != nil {
		return nil, fmt.Errorf("cuda: event on %s: %w", b.name, err)
	}
	b.check("record an event", event.Record(b.stream))
	if b.failed != nil {
		return nil, b.failed
	}
	return func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.enter()
		defer l.leave()
		l.check("wait for an event", l.stream.Wait(event, 0))
		l.marks.Lock()
		defer l.marks.Unlock()
		l.marks.spare = append(l.marks.spare, event) // the wait is for what was recorded
		return l.failed
	}, nil
}

// event is one that nobody uses.
func (l *Lane) event() (e cu.Event, err error) {
	l.marks.Lock()
	defer l.marks.Unlock()
	if n := len(l.marks.spare); n > 0 {
		e, l.marks.spare = l.marks.spare[n-1], l.marks.spare[:n-1]
		return e, nil
	}
	if e, err = cu.MakeEvent(cu.DisableTiming); err == nil {
		l.marks.all = append(l.marks.all, e)
	}
	return e, err
}

// Err is the lane's first failure.
func (l *Lane) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Done reports whether all that was put on the lane has run.
func (l *Lane) Done() (bool, error) {
	err := l.Current(func() error { return l.stream.Query() })
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
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.be.allocBy(&l.queue, dt, n)
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
func (l *Lane) Copy(dst, a tensor.Tensor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.be.copyBy(&l.queue, dst, a)
}

// Fill is dst = v on the lane.
func (l *Lane) Fill(dst tensor.Tensor, v float32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.be.fillBy(&l.queue, dst, v)
}

// Add is dst = x + y on the lane.
func (l *Lane) Add(dst, x, y tensor.Tensor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.be.addBy(&l.queue, dst, x, y)
}
