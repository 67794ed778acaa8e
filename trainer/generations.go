package trainer

import (
	"context"
	"sync"

	"github.com/agrdist/agrdist/cluster"
)

// generations remembers the newest generation that a session delivered and
// interrupts the one in progress when it is over.
type generations struct {
	news chan struct{} // has room for one signal

	mu      sync.Mutex
	newest  cluster.Generation
	taken   uint64 // number of the newest one handed out
	current uint64
	parting uint64 // the generation that is to be left after its step in flight; 0: none
	newer   func()

	cancel context.CancelFunc
	done   chan struct{}
}

func watch(ctx context.Context, s Session) *generations {
	ctx, cancel := context.WithCancel(ctx)
	g := &generations{news: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		for {
			select {
			case <-ctx.Done():
				return
			case gen := <-s.Generations():
				g.arrived(gen)
			case a := <-s.Aborts():
				g.aborted(a)
			}
		}
	}()
	return g
}

func (g *generations) close() {
	g.cancel()
	<-g.done
}

func (g *generations) arrived(gen cluster.Generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gen.Number <= g.newest.Number {
		return
	}
	g.newest = gen
	if g.newer != nil && gen.Number > g.current && gen.After != g.current {
		g.newer()
	}
	select {
	case g.news <- struct{}{}:
	default:
	}
}

// aborted interrupts a generation that has no successor yet, or notes that it is to be
// left after the step in flight.
func (g *generations) aborted(a cluster.Abort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.AfterStep {
		g.parting = a.Generation
		return
	}
	if g.newer != nil && a.Generation >= g.current {
		g.newer()
	}
}

// take returns the newest generation once.
func (g *generations) take() (cluster.Generation, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.newest.Number <= g.taken {
		return cluster.Generation{}, false
	}
	g.taken = g.newest.Number
	return g.newest, true
}

// due tells whether the generation in progress is to be left after its step in flight: for
// one that follows it then, or for one that is yet to come.
func (g *generations) due() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.parting == g.current || g.newest.Number > g.current && g.newest.After == g.current
}

// onNewer calls f when a generation after number arrives that does not wait for its step
// in flight, at once if it has; the returned function ends that.
func (g *generations) onNewer(number uint64, f func()) (end func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current, g.newer = number, f
	if g.newest.Number > number && g.newest.After != number {
		f()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.newer = nil
	}
}
