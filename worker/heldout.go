package worker

import (
	"context"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/eval/heldout"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/trainer"
)

// heldOut is the task that measures the loss on held-out images during a run. The draws
// are those of agrdist eval, whose numbers can be put beside these.
type heldOut struct {
	cfg     *config.Config
	model   *unet.Model
	set     data.Dataset
	process heldout.Process
	config  heldout.Config
	told    func(step int64, e metrics.Event)
}

// newHeldOutTask is the zero task where heldout.every is 0.
func (w *worker) newHeldOutTask(m *unet.Model, told func(step int64, e metrics.Event)) (t trainer.Task, err error) {
	c := w.cfg
	h := &heldOut{cfg: c, model: m, config: heldout.DefaultConfig(), told: told}
	t = trainer.Task{
		Name: "held-out loss", Phase: cluster.PhaseEval, Every: c.HeldOut.Every, Each: 1,
		Share: h.share, Merge: h.write,
	}
	if c.HeldOut.Every == 0 {
		return t, nil
	}
	if h.set, err = setup.HeldOut(c, w.spec.RunDir); err != nil {
		return t, err
	}
	w.later(func() error { return data.Close(h.set) })
	h.process.Schedule, h.process.Prediction, err = setup.Process(c)
	if c.Model.NumClassEmbeds > 0 {
		h.process.Label = h.set.Label
	}
	h.config.Batch = c.Train.Chunk // as much memory as a sample grid takes
	t.Count = h.set.Len()
	return t, err
}

// share measures the images [lo, hi): one value each.
func (h *heldOut) share(ctx context.Context, s *trainer.State, lo, hi int) (values []float32, err error) {
	measure := func() error {
		losses, err := heldout.Losses(ctx, h.model, h.process, h.set, h.config, lo, hi)
		for _, l := range losses {
			values = append(values, float32(l))
		}
		return err
	}
	if h.cfg.HeldOut.Raw {
		err = measure()
	} else {
		err = s.WithEMA(measure)
	}
	return values, err
}

// write tells of the mean over all images.
func (h *heldOut) write(step int64, values []float32) error {
	losses := make([]float64, len(values))
	for i, v := range values {
		losses[i] = float64(v)
	}
	mean, deviation, err := heldout.Summary(losses)
	if err != nil {
		return err
	}
	weights := "ema"
	if h.cfg.HeldOut.Raw || h.cfg.Train.EMADecay == 0 {
		weights = "raw"
	}
	h.told(step, metrics.Event{
		HeldOutLoss: &mean, HeldOutStdErr: &deviation, Images: len(values), Weights: weights,
	})
	return nil
}
