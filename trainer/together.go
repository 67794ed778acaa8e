package trainer

import (
	"context"
	"errors"
	"time"
)

// closedChannel is work that is already done.
var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// pulse is the pause between two exchanges of ranks that wait for one of them.
const pulse = 100 * time.Millisecond

// await keeps the ranks in touch while some of them have long work of their own,
// so that nobody's operation times out and a loss is noticed. It returns when
// every rank's work is done.
func (r *round) await(ctx context.Context, done <-chan struct{}) error {
	for {
		mine := false
		select {
		case <-done:
			mine = true
		default:
		}
		if all, err := r.agree(ctx, mine); err != nil || all {
			return err
		}
		r.progress.tick()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pulse):
		}
	}
}

// background does this rank's long work while it stays in touch with the others.
func (r *round) background(ctx context.Context, work func() error) error {
	done, failed := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		failed = work()
	}()
	err := r.await(ctx, done)
	<-done
	return errors.Join(failed, err)
}

// agree reports whether all ranks say yes.
func (r *round) agree(ctx context.Context, yes bool) (bool, error) {
	word := []byte{0}
	if yes {
		word[0] = 1
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return false, err
	}
	for _, w := range words {
		if len(w) != 1 || w[0] != 1 {
			return false, nil
		}
	}
	return true, nil
}
