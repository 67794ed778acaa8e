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

	// losses is where the losses of a chunk's images go.
	losses(chunk int) tensor.Tensor
	// overlaps says whether gradients are summed over the ranks while backward is still
	// at work on others. A device without peers computes a chunk in one piece.
	overlaps() bool
	// settle begins to bring the losses of the chunks [lo, hi) to the host. Where other
	// ranks wait for this one's gradients it waits for the device, so that a slow one
	// shows.
	settle(lo, hi int) error
	// collect sets sums, by chunk, to the sums of the losses that settle began to bring.
	// The host has waited for the device since (agr.Pass.Measure).
	collect(sums []float64)
	// images are those losses by image.
	images() []float32

	// add adds the model's gradient to this rank's sums, as that of a chunk which is
	// not the last of its block.
	add(chunk int)
	// reduce adds a range of the model's gradient, as that of the block's last chunk,
	// and begins to sum the range over all ranks; the result replaces the gradient. All
	// ranks call it with the same numbers in the same order.
	reduce(ctx context.Context, number uint32, at bucket)
	// wait returns when all that reduce began is done, or one has failed.
	wait(ctx context.Context) error

	// teach begins to send more of a lesson's blocks, all that are left or some. It comes
	// before the step's first reduce; wait waits for it, and then for the ranks' sums.
	teach(ctx context.Context, l *lesson, all bool)

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
		board, err := newLossBoard(p.Backend, cfg.GlobalBatch, cfg.Chunk)
		if err != nil {
			return nil, err
		}
		return &hostResidence{lossBoard: board, grads: grads.host}, nil
	}
	return newDeviceResidence(p.Backend, grads.buf, cfg.GlobalBatch, cfg.Chunk)
}

// lossBoard keeps the losses of the global batch, by image, where the model leaves them.
type lossBoard struct {
	on     tensor.Backend
	chunk  int            // images
	image  tensor.Buffer  // by image of the global batch
	fetch  tensor.Fetcher // nil: the backend has only copies that wait
	staged []float32      // the same as image, on the host
	found  []float32      // of staged, what settle brings
}

func newLossBoard(be tensor.Backend, globalBatch, chunk int) (*lossBoard, error) {
	losses, err := be.Alloc(tensor.F32, globalBatch)
	if err != nil {
		return nil, fmt.Errorf("trainer: room for losses: %w", err)
	}
	l := &lossBoard{on: be, chunk: chunk, image: losses}
	var ok bool
	if l.fetch, ok = be.(tensor.Fetcher); !ok {
		l.staged = make([]float32, globalBatch)
		return l, nil
	}
	if l.staged, err = l.fetch.AllocFetched(globalBatch); err != nil {
		return nil, fmt.Errorf("trainer: room for losses: %w", err)
	}
	return l, nil
}

func (l *lossBoard) losses(chunk int) tensor.Tensor {
	return tensor.Flat(l.on.Slice(l.image, chunk*l.chunk, l.chunk))
}

// bring copies the losses of the chunks [lo, hi) to the host, and waits for the device
// where it is told to, or there is no other way.
func (l *lossBoard) bring(lo, hi int, wait bool) (err error) {
	l.found = l.staged[:(hi-lo)*l.chunk]
	if lo == hi {
		return nil
	}
	from := l.on.Slice(l.image, lo*l.chunk, len(l.found))
	switch {
	case l.fetch == nil:
		err = l.on.Download(l.found, from)
	case wait:
		l.fetch.Fetch(l.found, from)
		err = l.on.Sync()
	default:
		l.fetch.Fetch(l.found, from)
	}
	if err != nil {
		return fmt.Errorf("trainer: losses: %w", err)
	}
	return nil
}

func (l *lossBoard) collect(sums []float64) {
	for i := range sums {
		sums[i] = 0
		for _, v := range l.found[i*l.chunk : (i+1)*l.chunk] {
			sums[i] += float64(v)
		}
	}
}

func (l *lossBoard) images() []float32 { return l.found }

// blockLast is the last chunk of a rank's block, -1 where it has none.
func blockLast(p *allreduce.Plan, rank int) int {
	lo, hi := p.Block(rank)
	if lo == hi {
		return -1
	}
	return hi - 1
}
