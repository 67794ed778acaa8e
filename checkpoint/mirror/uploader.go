package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// How long an upload that failed waits for the next try.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Uploader pushes checkpoints in the background, one at a time, as often as it takes.
// Where they come faster than the bucket takes them, only the newest and the pinned ones
// are pushed. Safe for concurrent use.
type Uploader struct {
	mirror *Mirror
	say    func(text string)
	stop   context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	waiting []local
	newest  int64         // step that was added last; -1: none
	pushed  int64         // newest step that the bucket is known to have; -1: none
	failing error         // of the last try; nil: it went well
	change  chan struct{} // closed when any of these changes
}

// local is a checkpoint on this machine.
type local struct {
	step int64
	dir  string
}

// Start starts an uploader; Close ends it. say is called with what a person should read:
// that the bucket does not take checkpoints, and that it does again.
func Start(m *Mirror, say func(text string)) *Uploader {
	ctx, cancel := context.WithCancel(context.Background())
	u := &Uploader{mirror: m, say: say, stop: cancel, done: make(chan struct{}), newest: -1, pushed: -1, change: make(chan struct{})}
	go u.run(ctx)
	return u
}

// changed is called with the lock held.
func (u *Uploader) changed() {
	close(u.change)
	u.change = make(chan struct{})
}

// Add has the checkpoint of a step, in a directory, pushed. It never waits.
func (u *Uploader) Add(step int64, dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pinned := u.mirror.opts.Pinned
	u.waiting = slices.DeleteFunc(u.waiting, func(l local) bool { return l.step == step || pinned == nil || !pinned(l.step) })
	u.waiting = append(u.waiting, local{step, dir})
	u.newest = step
	u.changed()
}

// Pushed is the step of the newest checkpoint that the bucket took from here; -1: none.
func (u *Uploader) Pushed() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.pushed
}

// Wait waits until everything that was added is in the bucket. The error tells why it
// is not.
func (u *Uploader) Wait(ctx context.Context) error {
	for {
		u.mu.Lock()
		waiting, failing, change := len(u.waiting), u.failing, u.change
		u.mu.Unlock()
		if waiting == 0 {
			return failing
		}
		select {
		case <-change:
		case <-u.done:
			return errors.New("mirror: closed")
		case <-ctx.Done():
			if failing != nil {
				return failing
			}
			return context.Cause(ctx)
		}
	}
}

// Close ends the upload under way, which then leaves nothing that passes for a
// checkpoint.
func (u *Uploader) Close() {
	u.stop()
	<-u.done
}

func (u *Uploader) run(ctx context.Context) {
	defer close(u.done)
	aborted, pause := false, firstPause
	for {
		next, ok := u.next(ctx)
		if !ok {
			return
		}
		began := time.Now()
		var err error
		if !aborted { // parts that nobody completes cost money
			aborted = true
			if err := u.mirror.bucket.Abort(ctx); err != nil {
				u.mirror.log.Warn("unfinished uploads not removed from the mirror", "err", err)
			}
		}
		err = u.mirror.Push(ctx, next.dir)
		if ctx.Err() != nil {
			return
		}
		again := u.finished(next, err)
		if !again {
			pause = firstPause
			if err == nil {
				u.mirror.log.Info("mirrored", "step", next.step, "at", u.mirror.At(next.step), "seconds", time.Since(began).Seconds())
			}
			continue
		}
		u.mirror.log.Warn("not mirrored", "step", next.step, "err", err, "again_in", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// next waits for something to push: the oldest of those that wait, all but the last
// pinned ones.
func (u *Uploader) next(ctx context.Context) (local, bool) {
	for {
		u.mu.Lock()
		change := u.change
		if len(u.waiting) > 0 {
			next := u.waiting[0]
			u.mu.Unlock()
			return next, true
		}
		u.mu.Unlock()
		select {
		case <-ctx.Done():
			return local{}, false
		case <-change:
		}
	}
}

// finished notes what became of a push, and tells whether to try again. A failure is
// said once, until it has passed.
func (u *Uploader) finished(l local, err error) (again bool) {
	u.mu.Lock()
	failed := u.failing != nil
	if !errors.Is(err, ErrGone) {
		u.failing = err
	}
	again = err != nil && !errors.Is(err, ErrGone)
	if !again {
		u.waiting = slices.DeleteFunc(u.waiting, func(w local) bool { return w == l })
	}
	if err == nil {
		u.pushed = max(u.pushed, l.step)
	}
	u.changed()
	u.mu.Unlock()
	switch {
	case err == nil && failed:
		u.say(fmt.Sprintf("%s has the checkpoint of step %d: copying works again", u.mirror, l.step))
	case again && !failed:
		u.say(fmt.Sprintf("the checkpoint of step %d is saved, but not copied: %v. Training continues, and so do the tries", l.step, err))
	}
	return again
}
