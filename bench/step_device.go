package bench

import (
	"fmt"
	"time"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/trainer"
)

// deviceWarmUp is how many steps go before the measured ones on a GPU: the
// first compile kernels, choose algorithms, and record the graphs.
const deviceWarmUp = 5

// deviceStep is Step on a GPU. Each step ends with a read of the loss and of the
// gradient's norm, as in training, so the wall's time is the device's. There is
// no probe of the device's peak: PeakGFLOPS and FLOPSShare are 0.
func deviceStep(c StepConfig, cfg config.Config) (StepResult, error) {
	dev, err := setup.Open(setup.DeviceConfig{Device: c.Device, Precision: c.Precision})
	if err != nil {
		return StepResult{}, err
	}
	defer func() { _ = dev.Close() }() // nothing of it is kept
	be := dev.Backend
	net, err := setup.Model(be, &cfg)
	if err != nil {
		return StepResult{}, err
	}
	net.Init(1)
	params := net.Params()
	_, pass, err := dev.Optimizer(&cfg, params)
	if err != nil {
		return StepResult{}, err
	}
	if pass == nil {
		return StepResult{}, fmt.Errorf("device %q is the CPU here; leave --device out", c.Device)
	}
	batch, err := randomBatch(be, cfg.Model, c.Batch)
	if err != nil {
		return StepResult{}, err
	}
	flops, err := net.Config().TrainingFLOPs()
	if err != nil {
		return StepResult{}, err
	}
	flat := tensor.Of(params.FlatLen())
	ema, err := be.Alloc(tensor.F32, params.FlatLen())
	if err != nil {
		return StepResult{}, err
	}
	be.Copy(tensor.Tensor{Buf: ema, Shape: flat}, tensor.Tensor{Buf: params.Values(), Shape: flat})
	update := trainer.DeviceUpdate{
		Params: params.Values(), Grads: params.Grads(), EMA: ema, LR: 1e-4, MaxGradNorm: 1, EMADecay: 0.999,
	}
	var steps, computes, updates, cpus []float64
	for i := range c.Steps + deviceWarmUp {
		start, used := time.Now(), cpuTime()
		if _, err := net.LossAndGrad(batch, nil); err != nil {
			return StepResult{}, err
		}
		computed := time.Now()
		update.T++
		if _, err := pass.Measure(update); err != nil {
			return StepResult{}, err
		}
		if err := pass.Apply(); err != nil {
			return StepResult{}, err
		}
		if err := be.Sync(); err != nil { // so that the update counts for its own step
			return StepResult{}, err
		}
		end := time.Now()
		if i >= deviceWarmUp {
			steps = append(steps, millis(end.Sub(start)))
			computes = append(computes, millis(computed.Sub(start)))
			updates = append(updates, millis(end.Sub(computed)))
			cpus = append(cpus, millis(cpuTime()-used))
		}
	}
	step := median(steps)
	return StepResult{
		Preset: c.Preset, Parameters: params.Count(), Batch: c.Batch, Precision: c.Precision,
		Backend: be.Name(), StepMillis: step, ComputeMillis: median(computes), UpdateMillis: median(updates),
		CPUMillis: median(cpus), GFLOP: float64(flops) * float64(c.Batch) / 1e9,
		ImagesPerS: float64(c.Batch) / step * 1e3, RSSMB: peakRSS(), Version: version.Build(),
	}, nil
}
