package bench

import (
	"time"

	"github.com/agrdist/agrdist/bench/probe"
	"github.com/agrdist/agrdist/parallel"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// Peaks is what the machine can do, as the probes of package probe found it.
type Peaks struct {
	Loops     string  `json:"probe"`         // instruction set of the probes
	GFLOPS    float64 `json:"peak_gflops"`   // 10^9 operations/s of one thread, f32 or, for avx512bf16, bf16: the best probe
	ReadGBS   float64 `json:"read_gb_s"`     // 10^9 bytes/s read, by all threads: the best probe
	ScaleGBS  float64 `json:"scale_gb_s"`    // read and written, x = a x in place: the best probe
	Megabytes float64 `json:"probe_mb"`      // memory that the probes of bandwidth go through
	Clock     string  `json:"clock"`         // what time is: "thread CPU time" or "wall"
	Threads   int     `json:"probe_threads"` // of the probes of bandwidth
}

// ProbeBytes is the memory that the probes of bandwidth go through.
const ProbeBytes = 256 << 20

// fmaTurns makes a probe of about a millisecond on 3 GHz.
const fmaTurns = 200_000

// yardstick probes the machine next to every measurement: on a shared machine the
// peak itself drifts, by what the neighbours do to clock and caches. A share is
// the median over such pairs; Peaks keeps the best of all probes.
type yardstick struct {
	clock clock
	loops probe.Loops
	pool  *parallel.Pool
	data  []float32
	best  Peaks
}

// newYardstick probes with the instruction set of a backend's kernels and its threads,
// bandwidth over a number of bytes (rounded up; 0: not at all).
func newYardstick(be *cpu.Backend, c clock, bytes int) (*yardstick, error) {
	pool := be.Pool()
	loops, err := probe.Find(be.Kernels())
	if err != nil {
		return nil, err
	}
	blocks := (bytes + 4*probe.Block - 1) / (4 * probe.Block)
	y := &yardstick{clock: c, loops: loops, pool: pool, data: make([]float32, blocks*probe.Block)}
	y.best = Peaks{
		Loops: loops.Name(), Clock: c.Name, Threads: pool.Threads(),
		Megabytes: float64(4*len(y.data)) / 1e6,
	}
	for i := range y.data {
		y.data[i] = 1 // memory that was never written is one page of zeros
	}
	for range 5 {
		y.gflops()
		if bytes > 0 {
			y.read()
			y.scale()
		}
	}
	return y, nil
}

// gflops is the rate of multiply-adds of one thread now.
func (y *yardstick) gflops() float64 {
	turns := fmaTurns
	if y.loops.Name() == "go" {
		turns *= 2
	}
	var flop int
	d := y.clock.time(func() { flop, _ = y.loops.FMA(turns) })
	rate := rateOf(float64(flop), d)
	y.best.GFLOPS = max(y.best.GFLOPS, rate)
	return rate
}

// read takes the rate of reading now.
func (y *yardstick) read() {
	d := y.clock.time(func() {
		y.parts(func(x []float32) { y.loops.Read(x) })
	})
	y.best.ReadGBS = max(y.best.ReadGBS, rateOf(float64(4*len(y.data)), d))
}

// scale is the rate of reading and writing in place now.
func (y *yardstick) scale() float64 {
	d := y.clock.time(func() {
		y.parts(func(x []float32) { y.loops.Scale(x, 1) })
	})
	rate := rateOf(float64(8*len(y.data)), d)
	y.best.ScaleGBS = max(y.best.ScaleGBS, rate)
	return rate
}

// part is the piece of memory that a thread takes at a time: 1 MiB.
const part = 1 << 18

func (y *yardstick) parts(f func(x []float32)) {
	n := (len(y.data) + part - 1) / part
	y.pool.Run(n, func(i int) { f(y.data[i*part : min((i+1)*part, len(y.data))]) })
}

// rateOf is 10^9 a second.
func rateOf(amount float64, d time.Duration) float64 {
	return amount / float64(max(1, d.Nanoseconds()))
}
