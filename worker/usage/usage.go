package usage

import (
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/cluster"
)

// Every is the time between two readings.
const Every = 2 * time.Second

// Sampler keeps the newest numbers.
type Sampler struct {
	newest atomic.Pointer[cluster.Usage]
	stop   chan struct{}
	done   chan struct{}
}

// Start begins to read. The caller must Close the sampler.
func Start() *Sampler {
	s := &Sampler{stop: make(chan struct{}), done: make(chan struct{})}
	root := os.DirFS("/")
	last := read(root)
	s.newest.Store(&cluster.Usage{RSSBytes: last.rss})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(Every)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				now := read(root)
				u := now.since(last)
				s.newest.Store(&u)
				last = now
			}
		}
	}()
	return s
}

// Usage returns the newest numbers. It may be called from any goroutine.
func (s *Sampler) Usage() cluster.Usage { return *s.newest.Load() }

// Close ends the reading.
func (s *Sampler) Close() error {
	close(s.stop)
	<-s.done
	return nil
}

// counters are readings at one time. All but rss only ever grow.
type counters struct {
	at                 time.Time
	rss                uint64 // bytes
	majorFaults        uint64
	preempted          uint64
	waited             map[string]uint64 // nanoseconds in which a thread could run and did not, by thread
	periods, throttled uint64            // of the cgroup that was held back most
	stolen, ticks      uint64            // of all CPUs
	retransmitted      uint64            // TCP segments
}

// read takes what there is; what there is not stays 0.
func read(root fs.FS) counters {
	c := counters{at: time.Now(), rss: residentBytes(root), waited: runDelays(root), retransmitted: retransmits(root)}
	c.periods, c.throttled = throttling(root)
	c.stolen, c.ticks = steal(root)
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		c.majorFaults, c.preempted = uint64(r.Majflt), uint64(r.Nivcsw)
	}
	return c
}

// since makes rates of two readings.
func (c counters) since(last counters) cluster.Usage {
	u := cluster.Usage{RSSBytes: c.rss}
	passed := c.at.Sub(last.at).Seconds()
	if passed <= 0 {
		return u
	}
	var waited uint64
	for thread, ns := range c.waited { // a thread that is new began at 0
		waited += grown(ns, last.waited[thread])
	}
	u.Runnable = float64(waited) / 1e9 / passed
	u.MajorFaults = float64(grown(c.majorFaults, last.majorFaults)) / passed
	u.Preempted = float64(grown(c.preempted, last.preempted)) / passed
	u.Retransmits = float64(grown(c.retransmitted, last.retransmitted)) / passed
	u.Throttled = share(grown(c.throttled, last.throttled), grown(c.periods, last.periods))
	u.Steal = share(grown(c.stolen, last.stolen), grown(c.ticks, last.ticks))
	return u
}

// grown is the growth of a counter; none where it was reset.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

func share(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return min(1, float64(part)/float64(all))
}
