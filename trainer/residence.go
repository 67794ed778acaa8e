package trainer

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/tensor"
)

// residence is the memory that holds parameters, gradients, average and moments, with
// the work that depends on whose memory it is: summing gradients over chunks and
// ranks, keeping losses, copying the state to a peer. hostResidence is memory that the
// host addresses, deviceResidence a device's own. The bits are the same in both.
//
// Its methods are called by the loop's goroutine.
type residence interface {
	// join prepares for the group of a generation; sums of an earlier one are dropped.
	join(ctx context.Context, g allreduce.Group, p *allreduce.Plan) error
	// leave ends what join began.
	leave()
	// transport says for people how gradients travel.
	transport() string

	// losses is where the losses of a chunk's images go; absent where the model waits
	// for the device and returns their sum.
	losses(chunk int) tensor.Tensor
	// collect waits for this rank's device and sets sums, by chunk from lo on, to what
	// the model would have returned where losses has a place for them.
	collect(lo int, sums []float64) error

	// add adds the model's gradient to this rank's sums, as that of a chunk which is
	// not the last of its block.
	add(chunk int)
	// reduce adds a range of the model's gradient, as that of the block's last chunk,
	// and begins to sum the range over all ranks; the result replaces the gradient. All
	// ranks call it with the same numbers in the same order.
	reduce(ctx context.Context, number uint32, at bucket)
	// wait returns when all that reduce began is done, or one has failed.
	wait(ctx context.Context) error

	// broadcast copies a range of one rank's vector to all others.
	broadcast(ctx context.Context, from int, m *mirror, at bucket) error
}

// newResidence finds out where the model's gradients live, and makes sure that the
// optimizer works there.
func newResidence(cfg Config, p Parts, grads *mirror) (residence, error) {
	for _, s := range p.Pass.Slots() {
		if _, host := s.Data.(tensor.Host); host != grads.same {
			return nil, fmt.Errorf("trainer: the optimizer's %s and the gradients on %s are not in the same memory; make the pass on the model's device",
				s.Name, p.Backend.Name())
		}
	}
	if grads.same {
		return &hostResidence{grads: grads.host}, nil
	}
	return newDeviceResidence(p.Backend, grads.buf, cfg.GlobalBatch, cfg.Chunk)
}

// blockLast is the last chunk of a rank's block, -1 where it has none.
func blockLast(p *allreduce.Plan, rank int) int {
	lo, hi := p.Block(rank)
	if lo == hi {
		return -1
	}
	return hi - 1
}
