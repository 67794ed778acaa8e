package trainer

import "context"

// ahead loads the images of one chunk ahead of the one that is computed, on a
// goroutine of its own. Its methods are called by the loop's goroutine.
type ahead struct {
	loader Loader
	draws  [2][]int64
	images [2][]float32
	turn   int // of the buffers: the next to fill
	flight *load
}

// load is one that nobody has taken yet.
type load struct {
	first  int64
	images []float32
	cancel context.CancelFunc
	done   chan struct{} // closed when images and err are final
	err    error
}

// newAhead is for chunks of n images of each values.
func newAhead(l Loader, n, each int) *ahead {
	a := &ahead{loader: l}
	for i := range a.images {
		a.draws[i], a.images[i] = make([]int64, n), make([]float32, n*each)
	}
	return a
}

// take returns the images of the draws from first on and begins to load those from
// next on (-1: none). They are valid until the next call. What was loaded
// ahead for another chunk, as when the world size has changed, is dropped.
func (a *ahead) take(ctx context.Context, first, next int64) ([]float32, error) {
	if a.flight == nil || a.flight.first != first {
		a.drop()
		a.begin(first)
	}
	f := a.flight
	select {
	case <-f.done:
	case <-ctx.Done(): // the load continues: the next generation may want it
		return nil, context.Cause(ctx)
	}
	a.drop()
	if f.err != nil {
		return nil, f.err
	}
	if next >= 0 {
		a.begin(next)
	}
	return f.images, nil
}

func (a *ahead) begin(first int64) {
	ctx, cancel := context.WithCancel(context.Background())
	draws := a.draws[a.turn]
	for i := range draws {
		draws[i] = first + int64(i)
	}
	f := &load{first: first, images: a.images[a.turn], cancel: cancel, done: make(chan struct{})}
	a.flight, a.turn = f, 1-a.turn
	go func() {
		defer close(f.done)
		f.err = a.loader.LoadContext(ctx, f.images, draws)
	}()
}

// drop ends the load in flight.
func (a *ahead) drop() {
	if f := a.flight; f != nil {
		f.cancel()
		<-f.done
		a.flight = nil
	}
}
