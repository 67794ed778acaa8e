package data

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Prefetcher loads batches on one goroutine of its own while its user computes.
// Request names a batch, Next returns the batches in the order of the requests.
// Its methods are called from one goroutine.
type Prefetcher struct {
	loader  *Loader
	free    chan *batch // batches to fill
	todo    chan *batch // requested
	ready   chan *batch // loaded
	pending int         // requested and not yet returned by Next
	lent    *batch      // returned by the last Next
	stopped atomic.Bool
	done    sync.WaitGroup
}

type batch struct {
	draws  []int64
	images []float32
	err    error
}

// NewPrefetcher starts the goroutine; Close ends it. depth is the number of
// batches that may be requested ahead, at least 1.
func NewPrefetcher(l *Loader, depth int) *Prefetcher {
	if depth < 1 {
		panic(fmt.Sprintf("data: prefetch depth %d", depth))
	}
	// One batch more than may be pending: the one that the user looks at. Every
	// channel has room for all of them, so no send ever blocks.
	p := &Prefetcher{
		loader: l,
		free:   make(chan *batch, depth+1),
		todo:   make(chan *batch, depth+1),
		ready:  make(chan *batch, depth+1),
	}
	for range depth + 1 {
		p.free <- &batch{}
	}
	p.done.Go(p.run)
	return p
}

func (p *Prefetcher) run() {
	for b := range p.todo {
		if !p.stopped.Load() {
			b.err = p.loader.Load(b.images, b.draws)
		}
		p.ready <- b
	}
}

// Request asks for the batch of these draws (copied). At most depth batches may
// be pending.
func (p *Prefetcher) Request(draws []int64) {
	if p.pending == cap(p.free)-1 {
		panic(fmt.Sprintf("data: %d batches are requested already", p.pending))
	}
	b := <-p.free
	b.draws = append(b.draws[:0], draws...)
	n := len(draws) * p.loader.ImageLen()
	if cap(b.images) < n {
		b.images = make([]float32, n)
	}
	b.images = b.images[:n]
	p.todo <- b
	p.pending++
}

// Pending is the number of requests that Next has not answered yet.
func (p *Prefetcher) Pending() int { return p.pending }

// Next waits for the oldest request and returns its draws and images, [n, H, W,
// C]; both are valid until the next call of Next, Reset or Close.
func (p *Prefetcher) Next() (draws []int64, images []float32, err error) {
	if p.pending == 0 {
		panic("data: Next without a Request")
	}
	p.giveBack()
	p.lent = <-p.ready
	p.pending--
	return p.lent.draws, p.lent.images, p.lent.err
}

// Reset drops all requests, after the one in progress: what a step that is done
// again in another way does.
func (p *Prefetcher) Reset() {
	p.giveBack()
	for ; p.pending > 0; p.pending-- {
		p.free <- <-p.ready
	}
}

func (p *Prefetcher) giveBack() {
	if p.lent != nil {
		p.free <- p.lent
		p.lent = nil
	}
}

// Close ends the goroutine and waits for it. It is idempotent; nothing but
// Close may be called afterwards.
func (p *Prefetcher) Close() {
	if p.stopped.Swap(true) {
		return
	}
	close(p.todo)
	p.done.Wait()
}
