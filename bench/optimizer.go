package bench

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
)

// BytesPerParameter is what clip + AGR + Adan + EMA must move: the gradient, read
// for the norms (4); gradient, parameter, average and Adan's four moments read
// (28), and all of these but the gradient written (24).
const BytesPerParameter = 56

// OptimizerConfig is one measurement of the pass after the all-reduce.
type OptimizerConfig struct {
	Params     int // parameters
	Threads    int
	Steps      int // measured passes, after one to warm up
	ProbeBytes int // memory for the probes of bandwidth
}

// OptimizerResult is one variant of the pass.
type OptimizerResult struct {
	Variant     string  `json:"variant"` // fused or unfused
	Parameters  int     `json:"parameters"`
	Threads     int     `json:"threads"`
	Kernel      string  `json:"kernel,omitempty"` // of the fused pass
	Millis      float64 `json:"time_ms"`          // median: norms, AGR, clip, Adan, EMA
	NormsMillis float64 `json:"norms_ms"`         // the norms of it, 4 bytes a parameter
	GBS         float64 `json:"gb_s"`             // 10^9 bytes/s at BytesPerParameter
	Share       float64 `json:"bandwidth_share"`  // median of rate / rate of scaling in place next to it
	Clock       string  `json:"clock"`
	ScaleGBS    float64 `json:"scale_gb_s"` // best probe: read and written in place
	ReadGBS     float64 `json:"read_gb_s"`
}

// Optimizer measures AGR + clip + Adan + EMA, fused and then unfused.
func Optimizer(c OptimizerConfig, each func(OptimizerResult)) error {
	if c.Params < 1 || c.Threads < 1 || c.Steps < 1 || c.ProbeBytes < 1 {
		return fmt.Errorf("%d parameters, %d threads, %d steps and %d bytes for probes must be positive", c.Params, c.Threads, c.Steps, c.ProbeBytes)
	}
	oc, err := optim.DefaultConfig("adan")
	if err != nil {
		return err
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: c.Threads})
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // only threads to end
	clock, stop := startClock(c.Threads)
	defer stop()
	y, err := newYardstick(dev.CPU(), clock, c.ProbeBytes)
	if err != nil {
		return err
	}
	segments, n := layers(c.Params)
	w, g := make([]float32, n), make([]float32, n)
	source := rng.New(1, rng.StreamNoise)
	source.Normal(w[:c.Params], 0)
	source.Normal(g[:c.Params], 1)
	u := optim.Update{
		Params: tensor.Floats(w), Grads: tensor.Floats(g), EMA: tensor.Floats(slices.Clone(w)),
		LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999,
	}
	for _, v := range []struct {
		name  string
		build func(optim.Config, bool, []optim.Segment, int, optim.Runner) (agr.Pass, error)
	}{{"fused", agr.NewPass}, {"unfused", agr.NewUnfusedPass}} {
		pass, err := v.build(oc, true, segments, n, dev.CPU().Pool())
		if err != nil {
			return err
		}
		r, err := measurePass(pass, u, y, c)
		if err != nil {
			return err
		}
		r.Variant, r.Parameters, r.Threads = v.name, c.Params, c.Threads
		each(r)
		debug.FreeOSMemory() // the next one's state is as large
	}
	return nil
}

func measurePass(pass agr.Pass, u optim.Update, y *yardstick, c OptimizerConfig) (OptimizerResult, error) {
	bytes := float64(c.Params) * BytesPerParameter
	var times, norms, shares []float64
	for i := range c.Steps + 1 {
		peak := y.scale()
		u.T++
		var errs [2]error
		first := y.clock.time(func() { _, errs[0] = pass.Measure(u) })
		second := y.clock.time(func() { errs[1] = pass.Apply() })
		if err := errors.Join(errs[:]...); err != nil {
			return OptimizerResult{}, err
		}
		if i > 0 {
			both := first + second
			times, norms = append(times, millis(both)), append(norms, millis(first))
			shares = append(shares, rateOf(bytes, both)/peak)
		}
	}
	y.read()
	ms := median(times)
	r := OptimizerResult{
		Millis: ms, NormsMillis: median(norms), GBS: bytes / ms / 1e6, Share: median(shares),
		Clock: y.clock.Name, ScaleGBS: y.best.ScaleGBS, ReadGBS: y.best.ReadGBS,
	}
	if k, ok := pass.(interface{ Kernel() string }); ok {
		r.Kernel = k.Kernel()
	}
	return r, nil
}

// layers cuts n parameters in tensors as a UNet has them: a 3x3 convolution of 256
// channels and its bias, over and over. The length is a multiple of 16, as in
// package nn; only the end can be padding.
func layers(n int) (segments []optim.Segment, flat int) {
	sizes := [...]int{9 * 256 * 256, 256}
	for i := 0; n > 0; i++ {
		size := min(n, sizes[i%2])
		segments = append(segments, optim.Segment{Name: fmt.Sprint("layer.", i), Off: flat, Len: size})
		flat += size
		n -= size
	}
	return segments, (flat + 15) &^ 15
}
