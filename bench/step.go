package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/rng"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
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

// Step measures the step of one worker: everything but data and communication.
func Step(c StepConfig) (StepResult, error) {
	model, err := preset(c.Preset)
	if err != nil {
		return StepResult{}, err
	}
	if c.Batch < 1 || c.Steps < 1 || c.Threads < 1 {
		return StepResult{}, fmt.Errorf("batch %d, steps %d and threads %d must be positive", c.Batch, c.Steps, c.Threads)
	}
	cfg := config.Default()
	cfg.Model = model
	if c.Device != "" && c.Device != "cpu" {
		return deviceStep(c, cfg)
	}
	s, err := newHostStep(c, cfg)
	if err != nil {
		return StepResult{}, err
	}
	defer s.close()
	flops, err := s.net.Config().TrainingFLOPs()
	if err != nil {
		return StepResult{}, err
	}
	clock, stop := startClock(c.Threads)
	defer stop()
	y, err := newYardstick(s.be, clock, 0)
	if err != nil {
		return StepResult{}, err
	}
	var steps, computes, updates, cpus []float64
	for i := range c.Steps + 1 {
		y.gflops()
		used := cpuTime()
		compute, update, err := s.run()
		if err != nil {
			return StepResult{}, err
		}
		if i > 0 {
			steps = append(steps, compute+update)
			computes = append(computes, compute)
			updates = append(updates, update)
			cpus = append(cpus, millis(cpuTime()-used))
		}
	}
	step, cpu := median(steps), median(cpus)
	gflop, taken := float64(flops)*float64(c.Batch)/1e9, step
	if c.Threads == 1 && cpu > 0 {
		taken = cpu
	}
	return StepResult{
		Preset: c.Preset, Parameters: s.net.Params().Count(), Batch: c.Batch, Threads: c.Threads, Precision: c.Precision,
		Backend: s.be.Name(), StepMillis: step, ComputeMillis: median(computes), UpdateMillis: median(updates), CPUMillis: cpu,
		GFLOP: gflop, PeakGFLOPS: y.best.GFLOPS, FLOPSShare: gflop / taken * 1e3 / (y.best.GFLOPS * float64(c.Threads)),
		ImagesPerS: float64(c.Batch) / step * 1e3, RSSMB: peakRSS(), Version: version.Build(),
	}, nil
}

// hostStep is a worker's step on the CPU: everything but data and communication.
type hostStep struct {
	be     *cpu.Backend
	net    *unet.Model
	batch  unet.Batch
	pass   agr.Pass
	update optim.Update
}

func newHostStep(c StepConfig, cfg config.Config) (*hostStep, error) {
	be, err := newBackend(c.Threads, c.Precision)
	if err != nil {
		return nil, err
	}
	s := &hostStep{be: be}
	if err := s.init(c, cfg); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *hostStep) init(c StepConfig, cfg config.Config) (err error) {
	if s.net, err = setup.Model(s.be, &cfg); err != nil {
		return err
	}
	s.net.Init(1)
	params := s.net.Params()
	if s.pass, err = setup.Pass(&cfg, params, s.be.Pool()); err != nil {
		return err
	}
	values := params.Values().(tensor.Host).Float32s() //nolint:forcetypeassert // the CPU backend's buffers are Host
	grads := params.Grads().(tensor.Host).Float32s()   //nolint:forcetypeassert // as above
	s.update = optim.Update{
		Params: values, Grads: grads, EMA: slices.Clone(values), LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999,
	}
	s.batch, err = randomBatch(s.be, cfg.Model, c.Batch)
	return err
}

// run makes a step and says how many milliseconds its parts took.
func (s *hostStep) run() (compute, update float64, err error) {
	start := time.Now()
	if _, err := s.net.LossAndGrad(s.batch, nil); err != nil {
		return 0, 0, err
	}
	computed := time.Now()
	s.update.T++
	s.pass.Update(s.update)
	return millis(computed.Sub(start)), millis(time.Since(computed)), nil
}

func (s *hostStep) close() { _ = s.be.Close() } // only threads to end

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
