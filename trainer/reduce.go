package trainer

import (
	"context"
	"math"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// reduction makes the gradient of the global batch out of the gradients of this
// rank's chunks and the other ranks'. A step is begin, then chunk for each chunk of
// the block in order, then wait, and collect once the gradient was measured. The last
// chunk's gradient leaves bucket by bucket while backward is still at work on the next
// one, where somebody waits for it. It belongs to a generation.
type reduction struct {
	home     residence
	chunks   *chunker
	progress *progress
	buckets  []bucket
	count    *countdown
	steps    int64 // of the run
	lo, hi   int   // this rank's block of chunks
	grads    *mirror

	// After a step that was not finite, each chunk's gradient is looked at before it is
	// summed, so that the rank that spoils the sum can name it. It costs the overlap of
	// the last chunk, and no bit.
	careful bool
	spoiled []int // chunks of the step whose gradient was not finite

	step  int64
	begun time.Time
	spent timing // of the step, as far as it is done
}

// timing is how a rank spent a step.
type timing struct {
	data    time.Duration // waiting for images
	compute time.Duration // until its own gradient was complete, data included
	wait    time.Duration // for the other ranks' gradients
	chunks  int
}

// begin starts a step.
func (r *reduction) begin(ctx context.Context, step int64, careful bool) {
	r.step, r.begun, r.spent = step, time.Now(), timing{chunks: r.hi - r.lo}
	r.careful, r.spoiled = careful, r.spoiled[:0]
	r.chunks.loading = 0
	r.count.reset()
	if r.lo == r.hi { // more ranks than chunks
		r.release(ctx, 0, len(r.buckets))
	}
}

// chunk computes a chunk and takes its gradient into the sums.
func (r *reduction) chunk(ctx context.Context, c int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.progress.set(cluster.PhaseForward, c-r.lo)
	last, whole := c == r.hi-1, r.careful || !r.home.overlaps()
	var ready func(param int)
	if last && !whole {
		ready = func(param int) {
			from, to := r.count.done(param)
			r.release(ctx, from, to)
		}
	}
	err := r.chunks.compute(ctx, r.step, c, r.nextDraw(c), r.home.losses(c), ready)
	if err == nil && r.careful {
		err = r.inspect(c)
	}
	switch {
	case err != nil:
	case !last:
		r.home.add(c)
	case whole:
		r.release(ctx, 0, len(r.buckets))
	}
	return err
}

// inspect notes a chunk whose gradient is not finite.
func (r *reduction) inspect(c int) error {
	r.grads.stale = true
	if err := r.grads.pull(); err != nil {
		return err
	}
	for _, g := range r.grads.host {
		if !finite(float64(g)) {
			r.spoiled = append(r.spoiled, c)
			return nil
		}
	}
	return nil
}

// nextDraw is the first draw of this rank's chunk after c, -1: there is none.
func (r *reduction) nextDraw(c int) int64 {
	switch {
	case c+1 < r.hi:
		return r.chunks.firstDraw(r.step, c+1)
	case r.step+1 < r.steps:
		return r.chunks.firstDraw(r.step+1, r.lo)
	}
	return -1
}

// release sends the buckets [from, to), whose gradients are final.
func (r *reduction) release(ctx context.Context, from, to int) {
	if from < to {
		r.progress.set(cluster.PhaseBackward, from)
	}
	base := uint32(r.step) * uint32(len(r.buckets)) // buckets are numbered over the run
	for b := from; b < to; b++ {
		r.home.reduce(ctx, base+uint32(b), r.buckets[b])
	}
}

// wait returns when the model's gradient is that of the global batch, for whoever works
// where the model is.
func (r *reduction) wait(ctx context.Context) error {
	if err := r.home.settle(r.lo, r.hi); err != nil {
		return err
	}
	if r.home.overlaps() {
		r.progress.set(cluster.PhaseAllReduce, 0)
	}
	r.spent.data, r.spent.compute = r.chunks.loading, time.Since(r.begun)
	err := r.home.wait(ctx)
	r.spent.wait = time.Since(r.begun) - r.spent.compute
	return err
}

// collect sets the losses of the block's chunks, once the gradient was measured.
func (r *reduction) collect(losses []float64) {
	r.home.collect(losses)
	for _, c := range r.spoiled {
		losses[c-r.lo] = math.NaN() // what the others are told of the chunk
	}
	if !r.home.overlaps() { // nobody has waited for the device before
		r.spent.compute, r.spent.wait = time.Since(r.begun), 0
	}
}
