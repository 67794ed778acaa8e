package suite

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/agrdist/agrdist/eval"
)

// Worker computes blocks of images; each worker is used by one goroutine.
type Worker interface {
	// Block returns the features [hi-lo, F] and the logits [hi-lo, K] of the images
	// [lo, hi): a function of their numbers alone, whichever worker computes them.
	Block(ctx context.Context, lo, hi int) (features, logits []float32, err error)
}

// Collection is what workers computed.
type Collection struct{ Features, Logits eval.Features }

// Plan says what to collect.
type Plan struct {
	Images            int
	Features, Classes int // values of a row
	Block             int // images a worker computes at once; part of the work file's form
	// File keeps finished blocks, so that the work can continue after a kill; empty:
	// they are in memory only.
	File string
	// Shared says that other evaluations may need File too: one that computes it is
	// waited for. Otherwise there is none but this one, and another process is an error.
	Shared bool
	// Progress, where not nil, is told the images done and, of these, how many were
	// found in File. It is called from one goroutine at a time.
	Progress func(done, found int)
}

// Collect computes all blocks that the file does not hold. On an error or a cancelled
// context what was finished stays in the file.
func Collect(ctx context.Context, workers []Worker, p Plan) (Collection, error) {
	if p.Images < 1 || p.Block < 1 || len(workers) == 0 {
		return Collection{}, fmt.Errorf("suite: %d images in blocks of %d by %d workers", p.Images, p.Block, len(workers))
	}
	c := &collector{
		plan: p, out: Collection{
			Features: eval.Features{Dim: p.Features, Data: make([]float32, p.Images*p.Features)},
			Logits:   eval.Features{Dim: p.Classes, Data: make([]float32, p.Images*p.Classes)},
		},
		ready: map[int]bool{},
	}
	var err error
	if c.file, err = openBlocks(ctx, p); err != nil {
		return Collection{}, err
	}
	defer func() { _ = c.file.close() }() // every block was synced or will be computed again
	if err := c.resume(); err != nil {
		return Collection{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			if err := c.work(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if c.written < c.blocks() {
		return Collection{}, context.Cause(ctx)
	}
	return c.out, nil
}

// collector hands out blocks and keeps their results, in order.
type collector struct {
	plan Plan
	out  Collection
	file *blockFile

	mu      sync.Mutex
	next    int          // block to hand out
	ready   map[int]bool // computed, not yet written: an earlier one is missing
	written int          // blocks in the file
	found   int          // images that were in the file at the start
}

func (c *collector) blocks() int { return (c.plan.Images + c.plan.Block - 1) / c.plan.Block }

func (c *collector) bounds(block int) (lo, hi int) {
	return block * c.plan.Block, min((block+1)*c.plan.Block, c.plan.Images)
}

// resume takes the blocks that the file holds.
func (c *collector) resume() error {
	for ; c.written < c.blocks(); c.written++ {
		lo, hi := c.bounds(c.written)
		f, l := c.rows(lo, hi)
		ok, err := c.file.read(f, l, hi-lo)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		c.found = hi
	}
	c.next = c.written
	if c.plan.Progress != nil && c.found > 0 {
		c.plan.Progress(c.found, c.found)
	}
	return c.file.cut()
}

func (c *collector) rows(lo, hi int) (features, logits []float32) {
	return c.out.Features.Data[lo*c.plan.Features : hi*c.plan.Features], c.out.Logits.Data[lo*c.plan.Classes : hi*c.plan.Classes]
}

// work computes blocks until there are no more.
func (c *collector) work(ctx context.Context, w Worker) error {
	for {
		c.mu.Lock()
		block := c.next
		c.next++
		c.mu.Unlock()
		if block >= c.blocks() {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		lo, hi := c.bounds(block)
		features, logits, err := w.Block(ctx, lo, hi)
		if err != nil {
			return err
		}
		if err := c.take(block, features, logits); err != nil {
			return err
		}
	}
}

// take keeps a block and writes all that have no gap before them.
func (c *collector) take(block int, features, logits []float32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lo, hi := c.bounds(block)
	f, l := c.rows(lo, hi)
	if len(features) != len(f) || len(logits) != len(l) {
		return errors.New("suite: a worker returned a block of another size")
	}
	copy(f, features)
	copy(l, logits)
	c.ready[block] = true
	for c.ready[c.written] {
		delete(c.ready, c.written)
		lo, hi := c.bounds(c.written)
		f, l := c.rows(lo, hi)
		if err := c.file.write(f, l, hi-lo); err != nil {
			return err
		}
		c.written++
		if c.plan.Progress != nil {
			c.plan.Progress(hi, c.found)
		}
	}
	return nil
}
