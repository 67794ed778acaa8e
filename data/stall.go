package data

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// pollEvery is how often a wait of at most stall is looked at.
func pollEvery(stall time.Duration) time.Duration {
	if stall == 0 {
		return time.Hour
	}
	return max(min(stall/4, time.Second), time.Millisecond)
}

// reading is one call of Load that may have to be left behind: a read from a file
// system whose server is gone cannot be interrupted. It has a buffer of its own,
// so that a read that comes back late writes where nobody looks.
type reading struct {
	images  []float32
	draws   []int64
	current atomic.Int64 // position in draws of the image that is being read
	done    chan error
}

// guarded is load with a limit on the time that one image takes.
func (l *Loader) guarded(ctx context.Context, dst []float32, draws []int64) error {
	r := l.readings.Get().(*reading) //nolint:forcetypeassert // the pool holds nothing else
	r.draws = append(r.draws[:0], draws...)
	if cap(r.images) < len(dst) {
		r.images = make([]float32, len(dst))
	}
	r.images = r.images[:len(dst)]
	r.current.Store(0)
	go func() { r.done <- l.load(r.images, r.draws, &r.current) }()

	tick := time.NewTicker(pollEvery(l.stall))
	defer tick.Stop()
	last, since := int64(0), time.Now()
	for {
		select {
		case err := <-r.done:
			copy(dst, r.images)
			l.readings.Put(r)
			return err
		case <-ctx.Done():
			return fmt.Errorf("loading %s: %w", quoted(l.nameOf(draws[r.current.Load()])), context.Cause(ctx))
		case now := <-tick.C:
			current := r.current.Load()
			if current != last {
				last, since = current, now
			}
			if l.stall > 0 && now.Sub(since) >= l.stall {
				return &StalledError{Path: l.nameOf(draws[current]), After: l.stall}
			}
		}
	}
}

// nameOf says where a draw's image is read from.
func (l *Loader) nameOf(draw int64) string {
	_, index, _ := l.Sample(draw)
	return NameOf(l.dataset, index)
}

// NameOf says where an image comes from, for people: its file, or the data set
// and its index.
func NameOf(d Dataset, index int) string {
	if named, ok := d.(interface{ ImageName(index int) string }); ok {
		return named.ImageName(index)
	}
	return fmt.Sprintf("%s: image %d", d.Name(), index)
}
