package allreduce

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/tensor"
)

// DeviceGroup is a Group that also sums and copies memory of the ranks' devices.
//
// Device operations are queued behind what the backend was given before them, in
// the same order on all ranks, by the goroutine that calls the backend. They have
// run when Wait returns without an error; until then their buffers must be neither
// read nor written. They fail as the others do, with an *Error, for good, on all
// ranks; a failure of an operation may show in Wait only.
type DeviceGroup interface {
	Group
	// Transport says for people how device memory travels: "nccl 2.27.3".
	Transport() string
	// AllReduceDevice is AllReduce on F32 buffers of the device.
	AllReduceDevice(ctx context.Context, bucket uint32, parts []tensor.Buffer, dst tensor.Buffer) error
	// BroadcastDevice is Broadcast on an F32 buffer of the device.
	BroadcastDevice(ctx context.Context, root int, buf tensor.Buffer) error
	// Wait returns when all device operations queued so far have run.
	Wait(ctx context.Context) error
}

// Watched is implemented by groups that tell of their failure while no operation
// is pending.
type Watched interface {
	// Dead is closed with the first failure, or by Close.
	Dead() <-chan struct{}
	// Failure is that failure as the error of an operation. It must be called
	// only when Dead is closed.
	Failure(op string, bucket uint32) error
}

// DeviceAccumulator is Accumulator for gradients in a device's memory: the same
// additions in the same order, done by the backend, so the same bits. It is used
// by the goroutine that calls the backend.
type DeviceAccumulator struct {
	be     tensor.Backend
	n      int
	lo, hi int
	steps  []mergeStep
	parts  []int
	slots  []tensor.Buffer
	last   tensor.Buffer // the gradient of the last chunk, where it is a part by itself
}

// NewDeviceAccumulator returns an accumulator for gradients of n elements; Begin
// gives it a place in a plan.
func NewDeviceAccumulator(be tensor.Backend, n int) *DeviceAccumulator {
	return &DeviceAccumulator{be: be, n: n}
}

// Begin makes it a rank's accumulator of a plan. What was added before is
// forgotten; the memory is kept, and more is taken where the plan needs it: one
// vector of n elements for each subtree sum that must wait.
func (a *DeviceAccumulator) Begin(p *Plan, rank int) error {
	shape := NewAccumulator(p, rank, 0)
	a.lo, a.hi, a.steps, a.parts, a.last = shape.lo, shape.hi, shape.steps, shape.parts, nil
	for len(a.slots) < len(shape.slots) {
		b, err := a.be.Alloc(tensor.F32, a.n)
		if err != nil {
			return err
		}
		a.slots = append(a.slots, b)
	}
	return nil
}

// Add merges the range [lo, hi) of a chunk's gradient into the subtree sums, as
// Accumulator.Add does.
func (a *DeviceAccumulator) Add(chunk, lo, hi int, grad tensor.Buffer) {
	if chunk < a.lo || chunk >= a.hi || grad.Len() != a.n {
		panic(fmt.Sprintf("allreduce: chunk %d of %d elements added to the block [%d, %d) of %d", chunk, grad.Len(), a.lo, a.hi, a.n))
	}
	if lo == hi {
		return
	}
	step := a.steps[chunk-a.lo]
	if step.slot == alias {
		a.last = grad
		return
	}
	right := a.view(grad, lo, hi)
	if step.merges == 0 {
		a.be.Copy(a.view(a.slots[step.slot], lo, hi), right)
		return
	}
	// The sums that are climbed over are not needed again: each takes the one
	// above it.
	for i := step.slot + step.merges - 1; i >= step.slot; i-- {
		slot := a.view(a.slots[i], lo, hi)
		a.be.Add(slot, slot, right)
		right = slot
	}
}

// Parts appends to dst the range [lo, hi) of the rank's subtree sums, as
// Accumulator.Parts does.
func (a *DeviceAccumulator) Parts(dst []tensor.Buffer, lo, hi int) []tensor.Buffer {
	for _, slot := range a.parts {
		from := a.last
		if slot != alias {
			from = a.slots[slot]
		}
		dst = append(dst, a.be.Slice(from, lo, hi-lo))
	}
	return dst
}

func (a *DeviceAccumulator) view(b tensor.Buffer, lo, hi int) tensor.Tensor {
	return cut(a.be, b, lo, hi)
}

// cut is the range [lo, hi) of a flat buffer.
func cut(be tensor.Backend, b tensor.Buffer, lo, hi int) tensor.Tensor {
	return tensor.Tensor{Buf: be.Slice(b, lo, hi-lo), Shape: tensor.Of(hi - lo)}
}
