package trainer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pulse is the pause between two exchanges of ranks that wait for one of them.
const pulse = 100 * time.Millisecond

// errInterrupted is the cause of a cancelled piece of work: the run is to stop.
var errInterrupted = errors.New("trainer: interrupted by a stop")

// The bits of what ranks tell each other while some of them work.
const (
	saysDone = 1 << iota // its own work is done
	saysStop             // it was asked to stop the run
)

// background does this rank's long work while it stays in touch with the others, so
// that nobody's operation times out and a loss is noticed. It returns when every
// rank's work is done. Work that is interruptible is cancelled on all ranks as soon as
// one of them was asked to stop the run; then interrupted is true, on all of them.
func (r *round) background(ctx context.Context, work func(context.Context) error, interruptible bool) (interrupted bool, err error) {
	done, failed := make(chan struct{}), error(nil)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer close(done)
		failed = work(inner)
	}()
	for wake := done; ; {
		var word byte
		select {
		case <-done:
			word, wake = saysDone, nil
		default:
		}
		if r.stop.Load() {
			word |= saysStop
		}
		all, some, err := r.exchange(ctx, word)
		if interruptible && some&saysStop != 0 && !interrupted {
			interrupted = true
			cancel(errInterrupted)
		}
		if err != nil || all&saysDone != 0 {
			cancel(err)
			<-done
			return interrupted, errors.Join(failed, err)
		}
		r.progress.tick()
		select {
		case <-ctx.Done():
			<-done
			return interrupted, errors.Join(failed, context.Cause(ctx))
		case <-wake:
		case <-time.After(pulse):
		}
	}
}

// agree reports whether all ranks say yes.
func (r *round) agree(ctx context.Context, yes bool) (bool, error) {
	var word byte
	if yes {
		word = saysDone
	}
	all, _, err := r.exchange(ctx, word)
	return all&saysDone != 0, err
}

// exchange returns the bits that all ranks say, and those that some of them say.
func (r *round) exchange(ctx context.Context, word byte) (all, some byte, err error) {
	words, err := r.group.AllGather(ctx, []byte{word})
	if err != nil {
		return 0, 0, err
	}
	all = 0xff
	for rank, w := range words {
		if len(w) != 1 {
			return 0, 0, fmt.Errorf("trainer: rank %d sent %d bytes where one is expected", rank, len(w))
		}
		all, some = all&w[0], some|w[0]
	}
	return all, some, nil
}
