package trainer

import (
	"context"

	"github.com/agrdist/agrdist/allreduce"
)

// reducer sends the buckets of a step while backward goes on. One goroutine of
// its own calls the group, bucket after bucket; start and stop belong to the
// generation.
type reducer struct {
	group   allreduce.Group
	acc     *allreduce.Accumulator
	buckets []bucket
	grads   []float32 // this rank's gradient of its last chunk
	sum     []float32 // the reduced gradient
	last    int       // the block's last chunk, -1: the rank has no chunks
	base    uint32    // number of the step's first bucket, counted over the run
	parts   [][]float32

	order chan int   // buckets to send
	done  chan error // one answer a step
	quit  chan struct{}
}

func newReducer(g allreduce.Group, acc *allreduce.Accumulator, buckets []bucket, last int, grads, sum []float32) *reducer {
	return &reducer{
		group: g, acc: acc, buckets: buckets, last: last, grads: grads, sum: sum,
		order: make(chan int, len(buckets)), done: make(chan error, 1), quit: make(chan struct{}),
	}
}

// run serves until stop is called. It is the only caller of AllReduce.
func (r *reducer) run(ctx context.Context) {
	var err error
	left := len(r.buckets)
	for {
		select {
		case <-r.quit:
			return
		case b := <-r.order:
			if err == nil {
				err = r.reduce(ctx, b)
			}
			if left--; left == 0 {
				r.done <- err
				left, err = len(r.buckets), nil
			}
		}
	}
}

func (r *reducer) reduce(ctx context.Context, b int) error {
	at := r.buckets[b]
	if r.last >= 0 {
		r.acc.Add(r.last, at.lo, at.hi, r.grads)
	}
	r.parts = r.acc.Parts(r.parts[:0], at.lo, at.hi)
	return r.group.AllReduce(ctx, r.base+uint32(b), r.parts, r.sum[at.lo:at.hi])
}

// send releases the buckets [from, to) of the step in flight.
func (r *reducer) send(from, to int) {
	for b := from; b < to; b++ {
		r.order <- b
	}
}

// wait returns when all buckets of the step are summed, or one has failed.
func (r *reducer) wait() error { return <-r.done }

func (r *reducer) stop() { close(r.quit) }
