package mesh

import (
	"sync"
	"sync/atomic"
	"time"
)

// deadline is a moment after which waiting ends. It may be moved at any time,
// also while something waits for it.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	sets  int           // a timer of an earlier set must not fire
	done  chan struct{} // closed when it has passed
	late  atomic.Bool
}

func (d *deadline) init() { d.done = make(chan struct{}) }

// set moves the deadline; the zero time means never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sets++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.late.Load() {
		d.done = make(chan struct{})
		d.late.Store(false)
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expire()
		return
	}
	sets := d.sets
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sets == sets {
			d.expire()
		}
	})
}

// expire lets the deadline pass; d.mu is held.
func (d *deadline) expire() {
	d.late.Store(true)
	close(d.done)
}

// passed tells whether the deadline has passed.
func (d *deadline) passed() bool { return d.late.Load() }

// wait returns a channel that is closed when the deadline passes.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}
