package bench

import (
	"runtime"
	"slices"
	"time"
)

// clock is how a measurement takes time.
type clock struct {
	// Name is "thread CPU time" or "wall".
	Name string
	now  func() time.Duration
}

// startClock returns the clock for work on a number of threads. On one thread,
// where the system has it, that is the processor time of this thread, to which
// the goroutine is bound until stop is called: on a shared machine it leaves out
// the time that others had the processor. On more threads it is the wall's.
func startClock(threads int) (c clock, stop func()) {
	if threads == 1 {
		runtime.LockOSThread()
		if threadTime() > 0 {
			return clock{"thread CPU time", threadTime}, runtime.UnlockOSThread
		}
		runtime.UnlockOSThread()
	}
	start := time.Now()
	return clock{"wall", func() time.Duration { return time.Since(start) }}, func() {}
}

// time runs f and says how long it took.
func (c clock) time(f func()) time.Duration {
	start := c.now()
	f()
	return c.now() - start
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func median(x []float64) float64 {
	s := slices.Clone(x)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
