package bench

import (
	"fmt"
	"time"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
)

// StepConfig is one measurement of the training step.
type StepConfig struct {
	Preset    string // digits, small or full
	Device    string // cpu, which empty means, or cuda
	Batch     int    // images of one forward and backward pass
	Threads   int
	Precision string // f32 or bf16
	Steps     int    // measured steps, after one (on a GPU five) to warm up
}

// StepResult is what a step costs.
type StepResult struct {
	Preset        string  `json:"preset"`
	Parameters    int     `json:"parameters"`
	Batch         int     `json:"batch"`
	Threads       int     `json:"threads"`
	Precision     string  `json:"precision"`
	Backend       string  `json:"backend"`
	StepMillis    float64 `json:"step_ms"`      // median: forward, backward, update
	ComputeMillis float64 `json:"compute_ms"`   // forward and backward of it
	UpdateMillis  float64 `json:"update_ms"`    // clip, AGR, Adan, EMA of it
	CPUMillis     float64 `json:"cpu_ms"`       // median processor time of a step over all threads
	ImagesPerS    float64 `json:"images_per_s"` // batch / step
	// GFLOP is what a step must compute, 10^9 operations: unet.Config.TrainingFLOPs
	// times the batch.
	GFLOP float64 `json:"step_gflop"`
	// PeakGFLOPS is the best probe of one thread's multiply-adds in this run, and
	// FLOPSShare the step's rate over Threads times that. On one thread both are
	// per processor time. On a GPU they are 0.
	PeakGFLOPS float64 `json:"peak_gflops"`
	FLOPSShare float64 `json:"flops_share"`
	RSSMB      float64 `json:"rss_mb"` // largest resident set of the process, MB
	Version    string  `json:"version"`
}

// Presets of models.
func preset(name string) (config.Model, error) {
	m := config.Default().Model
	switch name {
	case "digits":
	case "small": // 1.11M parameters at 32x32
		m.SampleSize, m.InChannels, m.BlockOutChannels, m.Dropout = 32, 3, []int{32, 64, 64}, 0.1
	case "full":
		m = setup.ModelSection(unet.CIFAR10())
	default:
		return m, fmt.Errorf("preset is %q; choose one of digits, small, full", name)
	}
	return m, nil
}

// Step measures the step of one worker: everything but data and communication. On a
// GPU each step ends with a read of the loss and of the gradient's norm, as in training,
// and a wait for the update, so the wall's time is the device's; there is no probe of
// its peak, so PeakGFLOPS and FLOPSShare are 0.
func Step(c StepConfig) (StepResult, error) {
	model, err := preset(c.Preset)
	if err != nil {
		return StepResult{}, err
	}
	if c.Batch < 1 || c.Steps < 1 || c.Threads < 1 {
		return StepResult{}, fmt.Errorf("batch %d, steps %d and threads %d must be positive", c.Batch, c.Steps, c.Threads)
	}
	s, err := newStep(c, model)
	if err != nil {
		return StepResult{}, err
	}
	defer s.close()
	return s.measure(c)
}

// step is a worker's step on a device: everything but data and communication.
type step struct {
	dev    *setup.Device
	net    *unet.Model
	batch  unet.Batch
	pass   agr.Pass
	update optim.Update
}

func newStep(c StepConfig, model config.Model) (*step, error) {
	device := c.Device
	if device == "" {
		device = "cpu"
	}
	dev, err := setup.Open(setup.DeviceConfig{Device: device, Precision: c.Precision, Threads: c.Threads})
	if err != nil {
		return nil, err
	}
	s := &step{dev: dev}
	if err := s.init(c, model); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *step) init(c StepConfig, model config.Model) (err error) {
	cfg, be := config.Default(), s.dev.Backend
	cfg.Model = model
	if s.net, err = setup.Model(be, &cfg); err != nil {
		return err
	}
	s.net.Init(1)
	params := s.net.Params()
	if s.pass, err = s.dev.Pass(&cfg, params); err != nil {
		return err
	}
	ema, err := be.Alloc(tensor.F32, params.FlatLen())
	if err != nil {
		return err
	}
	be.Copy(tensor.Flat(ema), tensor.Flat(params.Values()))
	s.update = optim.Update{
		Params: params.Values(), Grads: params.Grads(), EMA: ema, LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999,
	}
	s.batch, err = randomBatch(be, model, c.Batch)
	return err
}

// run makes a step and says how many milliseconds its parts took.
func (s *step) run() (compute, update float64, err error) {
	start := time.Now()
	if _, err := s.net.LossAndGrad(s.batch, nil); err != nil {
		return 0, 0, err
	}
	computed := time.Now()
	s.update.T++
	if _, err := agr.Update(s.pass, s.update); err != nil {
		return 0, 0, err
	}
	if err := s.dev.Backend.Sync(); err != nil { // so that the update counts for its own step
		return 0, 0, err
	}
	return millis(computed.Sub(start)), millis(time.Since(computed)), nil
}

func (s *step) close() { _ = s.dev.Close() } // nothing of it is kept

// gpuWarmUp is how many steps precede the measured ones on a GPU: the first compile
// kernels, choose algorithms, and record the graphs.
const gpuWarmUp = 5

func (s *step) measure(c StepConfig) (StepResult, error) {
	flops, err := s.net.Config().TrainingFLOPs()
	if err != nil {
		return StepResult{}, err
	}
	r := StepResult{
		Preset: c.Preset, Parameters: s.net.Params().Count(), Batch: c.Batch, Precision: c.Precision,
		Backend: s.dev.Backend.Name(), GFLOP: float64(flops) * float64(c.Batch) / 1e9, Version: version.Build(),
	}
	warmUp, probe := gpuWarmUp, func() {}
	var y *yardstick
	if be := s.dev.CPU(); be != nil {
		clock, stop := startClock(c.Threads)
		defer stop()
		if y, err = newYardstick(be, clock, 0); err != nil {
			return StepResult{}, err
		}
		r.Threads, warmUp, probe = c.Threads, 1, func() { y.gflops() }
	}
	var steps, computes, updates, cpus []float64
	for i := range c.Steps + warmUp {
		probe()
		used := cpuTime()
		compute, update, err := s.run()
		if err != nil {
			return StepResult{}, err
		}
		if i >= warmUp {
			steps = append(steps, compute+update)
			computes = append(computes, compute)
			updates = append(updates, update)
			cpus = append(cpus, millis(cpuTime()-used))
		}
	}
	r.StepMillis, r.ComputeMillis, r.UpdateMillis, r.CPUMillis = median(steps), median(computes), median(updates), median(cpus)
	r.ImagesPerS, r.RSSMB = float64(c.Batch)/r.StepMillis*1e3, peakRSS()
	if y != nil {
		taken := r.StepMillis
		if c.Threads == 1 && r.CPUMillis > 0 {
			taken = r.CPUMillis
		}
		r.PeakGFLOPS, r.FLOPSShare = y.best.GFLOPS, r.GFLOP/taken*1e3/(y.best.GFLOPS*float64(c.Threads))
	}
	return r, nil
}

func randomBatch(be tensor.Backend, m config.Model, n int) (unet.Batch, error) {
	images := tensor.Of(n, m.SampleSize, m.SampleSize, m.InChannels)
	b, err := unet.NewBatch(be, images)
	if err != nil {
		return b, err
	}
	b.Seed = 1
	t, draws, noise := make([]int64, n), make([]int64, n), make([]float32, images.Len())
	for i := range t {
		t[i], draws[i] = int64(i*997%1000), int64(i)
	}
	be.UploadInt64(b.T.Buf, t)
	be.UploadInt64(b.Draws.Buf, draws)
	rng.New(1, rng.StreamNoise).Normal(noise, 0)
	be.Upload(b.XT.Buf, noise)
	rng.New(1, rng.StreamNoise).Normal(noise, 1)
	be.Upload(b.Target.Buf, noise)
	return b, nil
}
