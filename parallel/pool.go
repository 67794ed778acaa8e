package parallel

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool is a set of goroutines that run loops together with their caller. Make
// one with New; Close ends its goroutines.
type Pool struct {
	threads int
	looks   int         // at round, before a thread sleeps
	busy    atomic.Bool // a loop is running; an inner or second one goes inline

	// The loop being run. Written by Run before it opens the loop, read by those who
	// entered: the counter orders the two.
	f      func(i int)
	shares []portion
	parts  int // of the shares, that the loop is cut in

	// inside counts the threads in the loop. Who finds none may not enter: the loop is
	// over.
	inside  atomic.Int64
	round   atomic.Int64  // how many loops were opened
	tokens  chan struct{} // wakes a helper
	done    chan struct{} // sent by a helper that was the last to leave
	failure atomic.Pointer[failure]

	unpin   func() // set by Pin: takes back what it did to the thread that calls
	closing sync.Once
	workers sync.WaitGroup
}

// patience is how often a thread without work looks for some before it sleeps: for
// 50 us or so, about what it takes to wake it again. A training step has a thousand
// loops a few microseconds apart. It is a count, not a time, so that a thread cannot
// wait for a clock that stands still (package synctest).
const patience = 100_000

// within is how many looks count as one while a loop is running: who ends its part
// first waits for the others, a millisecond if need be, and is awake when the next
// loop comes. Uneven loops are followed by small ones, which a thread that must be
// woken would miss.
const within = 20

// portion is a run of a loop's iterations. Each thread takes those of its own portion
// first, so that it works on what it worked on in the loop before, which is in its
// cache, and then those that the others have left.
type portion struct {
	next atomic.Int64
	end  int64
	_    [112]byte // two cache lines: their neighbours are fetched in pairs
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
		shares:  make([]portion, threads),
		tokens:  make(chan struct{}, threads-1),
		done:    make(chan struct{}, 1),
	}
	if threads <= runtime.GOMAXPROCS(0) { // or else a thread that looks keeps another from running
		p.looks = patience
	}
	for i := range threads - 1 {
		p.workers.Go(func() { p.help(i + 1) })
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
	p.f, p.parts = f, helpers+1
	for k := range p.parts {
		p.shares[k].next.Store(int64(k * n / p.parts))
		p.shares[k].end = int64((k + 1) * n / p.parts)
	}
	p.inside.Store(1)
	p.round.Add(1)
	for range helpers {
		select {
		case p.tokens <- struct{}{}:
		default: // as many as there are helpers wait already
		}
	}
	p.work(0)
	p.recall()
	if p.inside.Add(-1) > 0 {
		p.await()
	}
	failed := p.failure.Swap(nil)
	p.f = nil
	p.busy.Store(false)
	if failed != nil {
		panic(failed.value)
	}
}

// recall takes back the tokens that nobody took: nothing is left to do. A helper
// that took one and has yet to be scheduled finds the loop over, or the next one;
// nobody waits for it.
func (p *Pool) recall() {
	for {
		select {
		case _, open := <-p.tokens:
			if !open {
				return
			}
		default:
			return
		}
	}
}

// help is a helper goroutine: it looks for a loop that it has not been in, for a
// while, and then sleeps until a token comes.
func (p *Pool) help(thread int) {
	for seen := int64(0); ; {
		if !p.sees(seen) {
			if _, open := <-p.tokens; !open {
				break
			}
		}
		seen = p.round.Load()
		if !p.enter() {
			continue
		}
		p.work(thread)
		if p.inside.Add(-1) == 0 {
			p.done <- struct{}{}
		}
	}
	if p.unpin != nil {
		p.unpin()
	}
}

// sees looks for a loop after the given one.
func (p *Pool) sees(seen int64) bool {
	for range p.looks {
		for range within {
			if p.round.Load() != seen {
				return true
			}
			if p.inside.Load() == 0 {
				break
			}
		}
	}
	return false
}

// await waits for the helpers in the loop.
func (p *Pool) await() {
	const slower = 8 // a look at the channel, than one at round
	for range p.looks / slower * within {
		select {
		case <-p.done:
			return
		default:
		}
	}
	<-p.done
}

// enter joins the loop that is running, if there is one.
func (p *Pool) enter() bool {
	for {
		n := p.inside.Load()
		if n <= 0 {
			return false
		}
		if p.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// work takes iterations until none is left: a thread's own first.
func (p *Pool) work(thread int) {
	defer p.catch()
	f, parts := p.f, p.parts
	for k := range parts {
		s := &p.shares[(thread+k)%parts]
		for i := s.next.Add(1) - 1; i < s.end; i = s.next.Add(1) - 1 {
			f(int(i))
		}
	}
}

// catch keeps the first panic of a loop and makes the others' loops end.
func (p *Pool) catch() {
	if v := recover(); v != nil {
		p.failure.CompareAndSwap(nil, &failure{v})
		for k := range p.parts {
			p.shares[k].next.Store(p.shares[k].end)
		}
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
