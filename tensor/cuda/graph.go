//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/tensor"
)

var _ tensor.Replayer = (*Backend)(nil)

// ErrRecord is wrapped by Record where f cannot be recorded: it allocates, waits
// for the device or moves data from or to the host.
var ErrRecord = errors.New("cuda: operations cannot be recorded")

// Record runs f and records its operations as a CUDA graph, which replay launches
// as one. It calls f twice: once for real, so that libraries load their code and
// choose algorithms and the scratch memory grows to what is needed, which cannot
// be done while recording; then to record, which computes nothing. On the device
// f has thus run once.
//
// Everything in the arguments of the operations is recorded, scalars too. Buffers
// must stay allocated for as long as replay is used; it fails once the backend is
// closed. A failure of the recording leaves the backend usable.
func (b *Backend) Record(f func() error) (replay func() error, err error) {
	b.enter()
	defer b.leave()
	if err := errors.Join(f(), b.failed); err != nil {
		return nil, err
	}
	counting := b.counts
	b.counts = newCounts()
	exec, nodes, err := b.capture(f)
	recorded := b.counts
	b.counts = counting
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRecord, b.name, err)
	}
	b.closers = append(b.closers, exec.Destroy)
	return func() error {
		if b.closed {
			return fmt.Errorf("cuda: %s: replay on a closed backend", b.name)
		}
		b.enter()
		defer b.leave()
		b.counts.replayed(recorded, nodes)
		b.check("replay", exec.Launch(b.stream))
		return b.failed
	}, nil
}

// capture records f. The context is current and the thread locked: a capture
// begins and ends on one thread, and forbids waiting and allocating on that one.
func (b *Backend) capture(f func() error) (exec driver.GraphExec, nodes int, err error) {
	if err := driver.BeginCapture(b.stream, driver.CaptureThreadLocal); err != nil {
		return exec, 0, err
	}
	b.staging.recording = true
	called := f()
	b.staging.recording = false
	// What a forbidden call broke is the recording, not the device.
	failed := b.failed
	b.failed = nil
	graph, err := driver.EndCapture(b.stream)
	if err != nil {
		return exec, 0, errors.Join(called, failed, err)
	}
	if err := errors.Join(called, failed); err != nil {
		return exec, 0, errors.Join(err, graph.Destroy())
	}
	if nodes, err = graph.Nodes(); err == nil {
		exec, err = graph.Instantiate()
	}
	return exec, nodes, errors.Join(err, graph.Destroy())
}
