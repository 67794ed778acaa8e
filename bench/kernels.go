package bench

import (
	"fmt"
	"regexp"
	"time"

	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
)

// KernelsConfig is one run over the operations that a step is made of.
type KernelsConfig struct {
	Threads    int
	Precision  string        // f32 or bf16, what matmul and convolution inputs are rounded to; empty is f32
	Filter     string        // regular expression on "name shape"; empty for all
	Budget     time.Duration // of measuring, by operation; at least three samples are taken
	ProbeBytes int           // memory for the probes of bandwidth
}

// KernelResult is one operation on one shape.
type KernelResult struct {
	Name   string  `json:"name"`
	Shape  string  `json:"shape"`
	Millis float64 `json:"time_ms"` // median
	// GFLOPS is 10^9 operations/s of what is arithmetic, GBS 10^9 bytes/s of what
	// is memory; the other is 0.
	GFLOPS float64 `json:"gflops,omitempty"`
	GBS    float64 `json:"gb_s,omitempty"`
	// Share is the median of rate / rate of the probe next to it: multiply-adds
	// of all threads, or reading and writing in place. Operands that fit the
	// caches can exceed the latter.
	Share   float64 `json:"share"`
	Samples int     `json:"samples"`
}

// KernelsResult is the whole run.
type KernelsResult struct {
	Backend string `json:"backend"`
	Threads int    `json:"threads"`
	Peaks
	Kernels []KernelResult `json:"kernels"`
}

// operation is something to measure: flop operations, or bytes that must move.
type operation struct {
	name, shape string
	flop, bytes float64
	// prepare allocates the operands, and returns what runs and what frees them.
	prepare func(w *workbench) func()
}

// Kernels measures the backend's operations, each as the model calls it, packing
// and padding included. each is called after every operation.
func Kernels(c KernelsConfig, begin func(KernelsResult), each func(KernelResult)) (r KernelsResult, err error) {
	filter, err := regexp.Compile(c.Filter)
	if err != nil {
		return r, fmt.Errorf("filter: %w", err)
	}
	if c.Threads < 1 || c.Budget <= 0 || c.ProbeBytes < 1 {
		return r, fmt.Errorf("threads %d, time %v and %d bytes for probes must be positive", c.Threads, c.Budget, c.ProbeBytes)
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Precision: c.Precision, Threads: c.Threads})
	if err != nil {
		return r, err
	}
	defer func() { _ = dev.Close() }() // only threads to end
	be := dev.Backend
	var chosen []operation
	for _, o := range operations(be) {
		if filter.MatchString(o.name + " " + o.shape) {
			chosen = append(chosen, o)
		}
	}
	if len(chosen) == 0 {
		return r, fmt.Errorf("filter %q matches no operation", c.Filter)
	}
	clock, stop := startClock(c.Threads)
	defer stop()
	y, err := newYardstick(dev.CPU(), clock, c.ProbeBytes)
	if err != nil {
		return r, err
	}
	r = KernelsResult{Backend: be.Name(), Threads: c.Threads, Peaks: y.best}
	if begin != nil {
		begin(r)
	}
	for _, o := range chosen {
		k, err := o.measure(be, y, c)
		if err != nil {
			return r, err
		}
		r.Kernels = append(r.Kernels, k)
		if each != nil {
			each(k)
		}
	}
	r.Peaks = y.best
	return r, nil
}

// sampleTime is what a sample should take at least: far above the clock's grain.
const sampleTime = 2 * time.Millisecond

func (o operation) measure(be tensor.Backend, y *yardstick, c KernelsConfig) (KernelResult, error) {
	w := &workbench{be: be}
	defer w.free()
	run := o.prepare(w)
	if w.err != nil {
		return KernelResult{}, fmt.Errorf("%s %s: %w", o.name, o.shape, w.err)
	}
	run() // scratch grows, memory is touched
	calls := int(sampleTime/max(1, y.clock.time(run))) + 1
	var times, shares []float64
	for start := time.Now(); len(times) < 3 || time.Since(start) < c.Budget; {
		var peak float64
		if o.flop > 0 {
			peak = y.gflops() * float64(c.Threads)
		} else {
			peak = y.scale()
		}
		d := y.clock.time(func() {
			for range calls {
				run()
			}
		})
		times = append(times, millis(d)/float64(calls))
		shares = append(shares, rateOf((o.flop+o.bytes)*float64(calls), d)/peak)
	}
	if err := be.Sync(); err != nil {
		return KernelResult{}, fmt.Errorf("%s %s: %w", o.name, o.shape, err)
	}
	ms := median(times)
	return KernelResult{
		Name: o.name, Shape: o.shape, Millis: ms, GFLOPS: o.flop / ms / 1e6, GBS: o.bytes / ms / 1e6,
		Share: median(shares), Samples: len(times),
	}, nil
}
