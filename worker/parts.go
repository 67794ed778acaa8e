package worker

import (
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/metrics/otlp"
	"github.com/agrdist/agrdist/metrics/tensorboard"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/usage"
)

// parts builds everything that needs no network.
func (w *worker) parts() (trainer.Parts, error) {
	c := w.cfg
	p := trainer.Parts{Logger: w.log, Height: c.Model.SampleSize, Width: c.Model.SampleSize, Channel: c.Model.InChannels}
	device := setup.DeviceOf(c, w.spec.Slot)
	device.Logger = w.log
	dev, err := setup.Open(device)
	if err != nil {
		return p, &config.Error{Source: "device", Err: err}
	}
	w.device = dev
	w.later(dev.Close)
	if dev.Fallback != nil {
		w.log.Warn("training on the CPU", "err", dev.Fallback)
	}
	keep, err := dev.Fits(c)
	if err != nil {
		return p, err
	}
	set, err := setup.Dataset(c, w.spec.RunDir)
	if err != nil {
		return p, err
	}
	w.later(func() error { return data.Close(set) })
	if p.Process.Schedule, p.Process.Prediction, err = setup.Process(c); err != nil {
		return p, err
	}
	p.Process.Weighting = setup.Weighting(c)
	model, err := setup.Model(dev.Backend, c)
	if err != nil {
		return p, err
	}
	model.KeepActivations(keep)
	if p.Pass, err = dev.Pass(c, model.Params()); err != nil {
		return p, err
	}
	observer, err := w.observer(dev.Backend, model.Params().Count())
	if err != nil {
		return p, err
	}
	grid, err := newGridTask(c, model, w.spec.RunDir, observer.sample)
	if err != nil {
		return p, err
	}
	held, err := w.newHeldOutTask(model, observer.heldOut)
	if err != nil {
		return p, err
	}
	store, err := newStore(c, w.spec.RunDir, model.Config(), w.log, observer.saved)
	if err != nil {
		return p, err
	}
	p.Fresh = w.spec.Fresh
	if fd := w.spec.MemoryFD; fd > 0 {
		f := os.NewFile(uintptr(fd), "state")
		w.later(f.Close)
		p.Memory = trainer.NewMemory(f)
	}
	store.meta, store.otherBits = recipe.Meta(c, dev.Rounding), w.spec.AllowOtherBits
	w.later(store.Close)
	load := usage.Start()
	w.later(load.Close)
	p.Usage = func() cluster.Usage {
		u := load.Usage()
		u.ArenaBytes = 4 * uint64(model.ArenaLen())
		return u
	}
	p.Backend, p.Model, p.Loader = dev.Backend, model, w.loader(set)
	p.Tasks, p.Store, p.Observer = []trainer.Task{held, grid}, store, observer
	return p, nil
}

// loader reads the images. A file system that does not answer shows before the
// coordinator takes this worker for hung, with the file's name.
func (w *worker) loader(set data.Dataset) *data.Loader {
	l := data.NewLoader(set, w.cfg.Seed, w.cfg.Data.Flip)
	if w.cfg.Data.Name == data.Digits {
		return l
	}
	return l.WithStallLimit(config.Duration(w.cfg.Cluster.StepDeadline) / 2)
}

func (w *worker) observer(be tensor.Backend, parameters int) (*observer, error) {
	dir := rundir.Dir(w.spec.RunDir)
	file := metrics.New(dir.Events())
	events := metrics.Fan{file}
	if w.cfg.Log.TensorBoard {
		events = append(events, tensorboard.New(tensorboard.Config{
			Dir: dir.TensorBoard(), RunDir: w.spec.RunDir, Run: filepath.Base(w.spec.RunDir),
			HParams: hparams(w.cfg), Settings: string(w.cfg.YAML(false)),
		}))
	}
	if t := w.cfg.Telemetry; t.OTLP != "" {
		traces, err := otlp.New(otlp.Config{
			Endpoint: t.OTLP, Insecure: t.Insecure, Run: filepath.Base(w.spec.RunDir), Version: version.Build(), Log: w.log,
		})
		if err != nil {
			return nil, &config.Error{Source: "telemetry.otlp", Err: err}
		}
		events = append(events, traces)
	}
	w.later(events.Close)
	o := &observer{
		events: events, file: file, dir: rundir.Dir(w.spec.RunDir), records: w.out, log: w.log, node: w.spec.Node, every: w.cfg.Log.Every, steps: w.cfg.Train.Steps,
		start: metrics.Event{
			Version: version.Build(), ConfigHash: w.cfg.Hash(), Backend: be.Name(),
			Parameters: parameters, Order: w.cfg.AllReduce.Order,
		},
	}
	o.wrote.Store(-1)
	return o, nil
}

// hparams are the settings that TensorBoard compares runs by: those that change the
// model and are one number, word or switch.
func hparams(c *config.Config) map[string]any {
	out := map[string]any{}
	for _, k := range config.Keys() {
		if !k.Bits {
			continue
		}
		switch v := k.Value(c).(type) {
		case bool, int, int64, float64, string:
			out[k.Name] = v
		}
	}
	return out
}

func (w *worker) trainerConfig() (trainer.Config, error) {
	c := w.cfg
	order, err := allreduce.ParseOrder(c.AllReduce.Order)
	if err != nil {
		return trainer.Config{}, &config.Error{Source: "allreduce.order", Err: err}
	}
	return trainer.Config{
		Seed: c.Seed, Steps: c.Train.Steps, GlobalBatch: c.Train.GlobalBatch, Chunk: c.Train.Chunk,
		NumClasses: c.Model.NumClassEmbeds, LabelDropout: c.Data.LabelDropout,
		MaxGradNorm: c.Train.ClipGradNorm, EMADecay: c.Train.EMADecay, LR: setup.LearningRate(c).At,
		MaxSkipped: c.Train.MaxSkipped, DigestEvery: c.Train.DigestEvery,
		MemoryEvery: c.Checkpoint.MemoryEvery, CheckpointEvery: c.Checkpoint.Every, CheckpointAt: c.Checkpoint.KeepAt, Replicas: c.Checkpoint.Replicas,
		BucketBytes: int(c.AllReduce.BucketMB * (1 << 20)), Order: order, Measure: measured(c.Log),
		FullDiskWait: config.Duration(c.Checkpoint.FullDiskWait), OpTimeout: config.Duration(c.AllReduce.Timeout),
	}, nil
}
