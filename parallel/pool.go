package parallel

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Pool is a set of goroutines that run loops together with their caller. Make
// one with New; Close ends its goroutines.
type Pool struct {
	threads int
	busy    atomic.Bool // a loop is running; an inner or second one goes inline

	// The loop being run. Written by Run before it sends a token, read by a
	// helper after it took one: the channel orders the two.
	f    func(i int)
	n    int64
	next atomic.Int64

	tokens  chan struct{} // one for each helper asked to join
	joined  atomic.Int64  // helpers asked to join and not yet done
	done    chan struct{} // sent by the helper that finds joined at zero
	failure atomic.Pointer[failure]

	closing sync.Once
	workers sync.WaitGroup
}

// failure carries a panic of a loop body from a helper to the caller of Run.
type failure struct{ value any }

// New returns a pool of the given number of threads, of which the caller of Run
// is one: New(1) starts no goroutine. It panics when threads < 1.
func New(threads int) *Pool {
	if threads < 1 {
		panic(fmt.Sprintf("parallel: pool of %d threads", threads))
	}
	p := &Pool{
		threads: threads,
		tokens:  make(chan struct{}, threads-1),
		done:    make(chan struct{}, 1),
	}
	for range threads - 1 {
		p.workers.Go(p.help)
	}
	return p
}

// Threads is the number given to New.
func (p *Pool) Threads() int { return p.threads }

// Run calls f(i) once for each i in [0, n), on any of the pool's goroutines or
// the caller's, and returns when all calls have returned. The order is not
// defined. A Run inside f, or while another goroutine's Run is under way, calls
// its f on its own goroutine alone. When f panics, Run panics with the same
// value once the other calls have ended; some iterations are then left out.
//
// Run allocates nothing itself; pass an f that was made once.
func (p *Pool) Run(n int, f func(i int)) {
	helpers := min(p.threads, n) - 1
	if helpers < 1 || !p.busy.CompareAndSwap(false, true) {
		for i := range n {
			f(i)
		}
		return
	}
	p.f, p.n = f, int64(n)
	p.next.Store(0)
	p.joined.Store(int64(helpers) + 1) // and the caller
	for range helpers {
		p.tokens <- struct{}{}
	}
	p.work()
	p.recall()
	if p.joined.Add(-1) > 0 {
		<-p.done
	}
	failed := p.failure.Swap(nil)
	p.f = nil
	p.busy.Store(false)
	if failed != nil {
		panic(failed.value)
	}
}

// recall takes back the tokens of helpers that have not begun: nothing is left
// for them to do, and waiting for them to be scheduled would cost time.
func (p *Pool) recall() {
	for {
		select {
		case _, open := <-p.tokens:
			if !open {
				return
			}
			p.joined.Add(-1)
		default:
			return
		}
	}
}

// help is a helper goroutine: one loop for each token.
func (p *Pool) help() {
	for range p.tokens {
		p.work()
		if p.joined.Add(-1) == 0 {
			p.done <- struct{}{}
		}
	}
}

// work takes iterations until none is left.
func (p *Pool) work() {
	defer p.catch()
	f, n := p.f, p.n
	for i := p.next.Add(1) - 1; i < n; i = p.next.Add(1) - 1 {
		f(int(i))
	}
}

// catch keeps the first panic of a loop and makes the others' loops end.
func (p *Pool) catch() {
	if v := recover(); v != nil {
		p.failure.CompareAndSwap(nil, &failure{v})
		p.next.Store(p.n)
	}
}

// Close ends the pool's goroutines and waits for them. It is idempotent and
// must not be called during a Run; a Run after it works on the caller's
// goroutine alone.
func (p *Pool) Close() {
	p.closing.Do(func() {
		p.busy.Store(true)
		close(p.tokens)
		p.workers.Wait()
	})
}
