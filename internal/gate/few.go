package gate

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Few returns a logger that passes on at most n records of the same level and
// message in a period, and with the next one after it how many it has left out ("left_out"). It is
// for what strangers can cause as often as they like.
func Few(log *slog.Logger, n int, period time.Duration) *slog.Logger {
	return slog.New(&few{Handler: log.Handler(), seen: &seen{n: n, period: period, by: map[kind]*count{}}})
}

type few struct {
	slog.Handler

	seen *seen
}

type seen struct {
	n      int
	period time.Duration

	mu sync.Mutex
	by map[kind]*count // messages are constants, so they are few
}

type kind struct {
	level   slog.Level
	message string
}

type count struct {
	begin   time.Time
	passed  int
	leftOut int
}

// Handle implements slog.Handler.
func (f *few) Handle(ctx context.Context, r slog.Record) error {
	pass, leftOut := f.seen.next(r)
	if !pass {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return f.Handler.Handle(ctx, r)
}

func (s *seen) next(r slog.Record) (pass bool, leftOut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kind{r.Level, r.Message}
	c := s.by[k]
	if c == nil {
		c = &count{begin: r.Time}
		s.by[k] = c
	}
	if r.Time.Sub(c.begin) >= s.period {
		c.begin, c.passed = r.Time, 0
	}
	if c.passed == s.n {
		c.leftOut++
		return false, 0
	}
	c.passed++
	leftOut, c.leftOut = c.leftOut, 0
	return true, leftOut
}

// WithAttrs implements slog.Handler.
func (f *few) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &few{Handler: f.Handler.WithAttrs(attrs), seen: f.seen}
}

// WithGroup implements slog.Handler.
func (f *few) WithGroup(name string) slog.Handler {
	return &few{Handler: f.Handler.WithGroup(name), seen: f.seen}
}
