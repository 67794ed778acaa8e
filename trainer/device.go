package trainer

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// deviceReduction sums in the device's memory: what is queued on the device is
// computed, accumulated and reduced in the order of the calls, and the host waits
// once a step.
type deviceReduction struct {
	group   allreduce.DeviceGroup
	acc     *allreduce.DeviceAccumulator
	be      tensor.Backend
	buckets []bucket
	grads   tensor.Buffer // of the chunk in flight; the reduced gradient in the end
	last    int           // the block's last chunk, -1: the rank has no chunks
	base    uint32        // number of the step's first bucket, counted over the run
	parts   []tensor.Buffer
	err     error // the step's first failure
}

func (r *round) newDeviceReduction() (*deviceReduction, error) {
	if err := r.acc.Begin(r.plan, r.rank); err != nil {
		return nil, fmt.Errorf("trainer: room for partial sums: %w", err)
	}
	return &deviceReduction{
		group: r.device, acc: r.acc, be: r.parts.Backend, buckets: r.buckets,
		grads: r.grads.buf, last: blockLast(r.plan, r.rank),
	}, nil
}

func (d *deviceReduction) begin(step int64) {
	d.base, d.err = uint32(step)*uint32(len(d.buckets)), nil
}

func (d *deviceReduction) early() bool { return true }

func (d *deviceReduction) add(chunk int) error {
	d.acc.Add(chunk, 0, d.grads.Len(), d.grads)
	return nil
}

func (d *deviceReduction) flush(context.Context) error { return nil }

func (d *deviceReduction) send(ctx context.Context, from, to int) {
	for b := from; b < to && d.err == nil; b++ {
		at := d.buckets[b]
		if d.last >= 0 {
			d.acc.Add(d.last, at.lo, at.hi, d.grads)
		}
		d.parts = d.acc.Parts(d.parts[:0], at.lo, at.hi)
		d.err = d.group.AllReduceDevice(ctx, d.base+uint32(b), d.parts, d.be.Slice(d.grads, at.lo, at.hi-at.lo))
	}
}

func (d *deviceReduction) wait(ctx context.Context) error {
	if d.err != nil {
		return d.err
	}
	return d.group.Wait(ctx)
}

func (d *deviceReduction) stop() {}

// measure waits for the gradient's norm where the device holds the state: the last
// time in a step that the host waits for the device.
func (r *round) measure(lr float64) (optim.Stats, error) {
	if r.device == nil {
		return optim.Stats{}, nil
	}
	s := r.state
	u := DeviceUpdate{
		Params: s.values.buf, Grads: r.grads.buf, LR: lr, T: s.Updates + 1,
		MaxGradNorm: r.cfg.MaxGradNorm, EMADecay: r.cfg.EMADecay,
	}
	if s.ema != nil {
		u.EMA = s.ema.buf
	}
	stats, err := r.parts.DeviceOptimizer.Measure(u)
	if err != nil {
		return stats, fmt.Errorf("trainer: gradient of step %d: %w", s.Step, err)
	}
	return stats, nil
}

// updateOnDevice is update where the device holds the state, with what measure said.
// The next step begins while it runs.
func (r *round) updateOnDevice(measured optim.Stats) (optim.Stats, error) {
	err := r.parts.DeviceOptimizer.Apply()
	r.state.changed()
	if err != nil {
		return measured, fmt.Errorf("trainer: update of step %d: %w", r.state.Step, err)
	}
	return measured, nil
}

// spreadOnDevice is spread from device to device. Ranks that keep their state take
// the other's into the gradients, which hold nothing between steps.
func (r *round) spreadOnDevice(ctx context.Context, from int, keep bool) error {
	be := r.parts.Backend
	for _, m := range r.state.mirrors {
		for lo := 0; lo < m.buf.Len(); lo += transferBlock {
			n := min(transferBlock, m.buf.Len()-lo)
			part := be.Slice(m.buf, lo, n)
			if keep && r.rank != from {
				part = be.Slice(r.grads.buf, 0, n)
			}
			if err := r.device.BroadcastDevice(ctx, from, part); err != nil {
				return err
			}
			if err := r.device.Wait(ctx); err != nil {
				return err
			}
			r.progress.tick()
		}
	}
	if !keep {
		r.state.changed()
	}
	return nil
}
