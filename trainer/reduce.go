package trainer

import (
	"context"

	"github.com/agrdist/agrdist/allreduce"
)

// reduction makes the gradient of the batch from the gradients of this rank's
// chunks and the other ranks'. It belongs to a generation and is used by the
// loop's goroutine.
type reduction interface {
	// begin starts a step.
	begin(step int64)
	// early says that buckets may be sent while backward goes on.
	early() bool
	// add takes the gradient of a chunk that is not the rank's last.
	add(chunk int) error
	// flush sends all buckets, after the last chunk, where early says no.
	flush(ctx context.Context) error
	// send releases the buckets [from, to), whose gradients are final.
	send(ctx context.Context, from, to int)
	// wait returns when all buckets of the step are summed, or one has failed.
	wait(ctx context.Context) error
	// stop ends it.
	stop()
}

// blockLast is the last chunk of a rank's block, -1 where it has none.
func blockLast(p *allreduce.Plan, rank int) int {
	lo, hi := p.Block(rank)
	if lo == hi {
		return -1
	}
	return hi - 1
}

// hostReduction sums in host memory. A goroutine of its own calls the group,
// bucket after bucket.
type hostReduction struct {
	group   allreduce.Group
	acc     *allreduce.Accumulator
	buckets []bucket
	grads   *mirror // this rank's gradient of its last chunk; the reduced gradient in the end
	last    int     // the block's last chunk, -1: the rank has no chunks
	base    uint32  // number of the step's first bucket, counted over the run
	parts   [][]float32

	order  chan int   // buckets to send
	done   chan error // one answer a step
	quit   chan struct{}
	served chan struct{}
}

func newHostReduction(ctx context.Context, g allreduce.Group, p *allreduce.Plan, buckets []bucket, grads *mirror) *hostReduction {
	h := &hostReduction{
		group: g, acc: allreduce.NewAccumulator(p, g.Rank(), len(grads.host)), buckets: buckets, grads: grads,
		last: blockLast(p, g.Rank()), order: make(chan int, len(buckets)), done: make(chan error, 1),
		quit: make(chan struct{}), served: make(chan struct{}),
	}
	go func() {
		defer close(h.served)
		h.run(ctx)
	}()
	return h
}

// run serves until stop is called. It is the only caller of AllReduce.
func (h *hostReduction) run(ctx context.Context) {
	var err error
	left := len(h.buckets)
	for {
		select {
		case <-h.quit:
			return
		case b := <-h.order:
			if err == nil {
				err = h.reduce(ctx, b)
			}
			if left--; left == 0 {
				h.done <- err
				left, err = len(h.buckets), nil
			}
		}
	}
}

func (h *hostReduction) reduce(ctx context.Context, b int) error {
	at := h.buckets[b]
	if h.last >= 0 {
		h.acc.Add(h.last, at.lo, at.hi, h.grads.host)
	}
	h.parts = h.acc.Parts(h.parts[:0], at.lo, at.hi)
	return h.group.AllReduce(ctx, h.base+uint32(b), h.parts, h.grads.host[at.lo:at.hi])
}

func (h *hostReduction) begin(step int64) { h.base = uint32(step) * uint32(len(h.buckets)) }
func (h *hostReduction) early() bool      { return h.grads.same }

func (h *hostReduction) add(chunk int) error {
	if err := h.pull(); err != nil {
		return err
	}
	h.acc.Add(chunk, 0, len(h.grads.host), h.grads.host)
	return nil
}

func (h *hostReduction) flush(ctx context.Context) error {
	if err := h.pull(); err != nil {
		return err
	}
	h.send(ctx, 0, len(h.buckets))
	return nil
}

// pull brings a chunk's gradient to the host.
func (h *hostReduction) pull() error {
	h.grads.stale = true
	return h.grads.pull()
}

func (h *hostReduction) send(_ context.Context, from, to int) {
	for b := from; b < to; b++ {
		h.order <- b
	}
}

func (h *hostReduction) wait(context.Context) error { return <-h.done }

func (h *hostReduction) stop() {
	close(h.quit)
	<-h.served
	h.acc.Free()
}
