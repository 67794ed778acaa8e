package trainer

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/tensor"
)

// deviceResidence is a device's own memory: what is queued on the device is computed,
// accumulated and reduced in the order of the calls, and the host waits once a step.
type deviceResidence struct {
	*lossBoard

	be    tensor.Backend
	grads tensor.Buffer // of the chunk in flight; the reduced gradient in the end
	acc   *allreduce.DeviceAccumulator

	// Of the generation.
	group  allreduce.DeviceGroup
	passed tensor.Buffer // a block of a lesson, on ranks that have the state
	last   int           // the block's last chunk, -1: the rank has no chunks
	parts  []tensor.Buffer
	err    error // the first failure since wait
}

func newDeviceResidence(be tensor.Backend, grads tensor.Buffer, globalBatch, chunk int) (*deviceResidence, error) {
	board, err := newLossBoard(be, globalBatch, chunk)
	if err != nil {
		return nil, err
	}
	return &deviceResidence{lossBoard: board, be: be, grads: grads, acc: allreduce.NewDeviceAccumulator(be, grads.Len())}, nil
}

// join takes any group: one that cannot exchange device memory gets it through the
// host.
func (d *deviceResidence) join(_ context.Context, g allreduce.Group, p *allreduce.Plan) error {
	var ok bool
	if d.group, ok = g.(allreduce.DeviceGroup); !ok {
		d.group = allreduce.Staged(g, d.be)
	}
	d.last, d.err = blockLast(p, g.Rank()), nil
	if err := d.acc.Begin(p, g.Rank()); err != nil {
		return fmt.Errorf("trainer: room for partial sums: %w", err)
	}
	return nil
}

func (d *deviceResidence) leave() {}

func (d *deviceResidence) overlaps() bool { return d.group.Size() > 1 }

func (d *deviceResidence) settle(lo, hi int) error { return d.bring(lo, hi, d.overlaps()) }

func (d *deviceResidence) transport() string { return d.group.Transport() }

func (d *deviceResidence) add(chunk int) { d.acc.Add(chunk, 0, d.grads.Len(), d.grads) }

func (d *deviceResidence) reduce(ctx context.Context, number uint32, at bucket) {
	if d.err != nil {
		return
	}
	if d.last >= 0 {
		d.acc.Add(d.last, at.lo, at.hi, d.grads)
	}
	d.parts = d.acc.Parts(d.parts[:0], at.lo, at.hi)
	d.err = d.group.AllReduceDevice(ctx, number, d.parts, d.be.Slice(d.grads, at.lo, at.hi-at.lo))
}

func (d *deviceResidence) wait(ctx context.Context) error {
	if err := d.err; err != nil {
		d.err = nil
		return err
	}
	return d.group.Wait(ctx)
}

// teach sends a fixed number of blocks: to look at the clock would be to wait for the
// device.
func (d *deviceResidence) teach(ctx context.Context, l *lesson, all bool) {
	rank := d.group.Rank()
	for sent := 0; d.err == nil && !l.done() && (all || sent < l.least()); sent++ {
		b := l.blocks[l.next]
		to := d.be.Slice(b.of.buf, b.at.lo, b.at.hi-b.at.lo)
		if rank != l.from && !l.learns[rank] {
			if d.passed == nil {
				if d.passed, d.err = d.be.Alloc(tensor.F32, transferBlock); d.err != nil {
					return
				}
			}
			to = d.be.Slice(d.passed, 0, b.at.hi-b.at.lo)
		}
		d.err = d.group.BroadcastDevice(ctx, l.from, to)
		l.next++
	}
}

func (d *deviceResidence) broadcast(ctx context.Context, from int, m *mirror, at bucket) error {
	if err := d.group.BroadcastDevice(ctx, from, d.be.Slice(m.buf, at.lo, at.hi-at.lo)); err != nil {
		return err
	}
	return d.group.Wait(ctx)
}
