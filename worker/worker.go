package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/metrics/otlp"
	"github.com/agrdist/agrdist/metrics/tensorboard"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
	"github.com/agrdist/agrdist/worker/usage"
)

// worker holds what has to be closed.
type worker struct {
	spec   spec.Spec
	cfg    *config.Config
	log    *slog.Logger
	out    *recordWriter
	keys   *security.Keys
	device *setup.Device
	flight *flight.Recorder
	close  []func() error
}

// run trains as one worker until the run ends, and returns the process's exit code.
func run(ctx context.Context, asked requests, s spec.Spec, log *slog.Logger, out *recordWriter) (int, error) {
	w := &worker{spec: s, log: log, out: out, flight: flight.Open(supervise.KeptFD)}
	defer w.shut()
	err := w.run(ctx, asked)
	var (
		refused *config.Error
		ended   *coordinator.EndError
	)
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, errStopped):
		return cluster.ExitStopped, nil
	case errors.As(err, &ended):
		return ended.End.ExitCode, nil // the run is over; whoever ended it has said why
	case errors.As(err, &refused), errors.Is(err, trainer.ErrDiverged), errors.Is(err, cluster.ErrMismatch), badData(err):
		return cluster.ExitBadConfig, err
	case fatal(err):
		return cluster.ExitFatal, err
	}
	return cluster.ExitFailed, err
}

// sourceOf is what an error refuses: a key, a file, a device.
func sourceOf(err error) string {
	if refused, ok := errors.AsType[*config.Error](err); ok {
		return refused.Source
	}
	return ""
}

// badData says whether an image has changed or gone since the run started. The
// same images would come again after a restart.
func badData(err error) bool {
	var (
		corrupt *data.CorruptError
		missing *data.MissingError
	)
	return errors.As(err, &corrupt) || errors.As(err, &missing)
}

// fatal says whether an error would only come again after a restart.
func fatal(err error) bool {
	var (
		save *checkpoint.SaveError
		none *checkpoint.NoneValidError
		left *trainer.UnsavedError
	)
	return errors.Is(err, trainer.ErrDigest) || errors.Is(err, trainer.ErrHistories) || errors.As(err, &left) || errors.As(err, &save) || errors.As(err, &none)
}

var errStopped = errors.New("worker: stopped")

func (w *worker) shut() {
	for _, f := range slices.Backward(w.close) {
		if err := f(); err != nil {
			w.log.Info("closing", "err", err) // what matters was reported by the work itself
		}
	}
}

func (w *worker) later(f func() error) { w.close = append(w.close, f) }

func (w *worker) run(ctx context.Context, asked requests) error {
	var err error
	if w.cfg, err = config.FromYAML([]byte(w.spec.Config)); err != nil {
		return &config.Error{Source: "worker spec", Err: err}
	}
	if len(w.spec.Secret) > 0 {
		if w.keys, err = security.Derive(w.spec.Secret, security.Identity{RunID: w.spec.RunID, Node: w.spec.Node}); err != nil {
			return &config.Error{Source: "cluster.secret", Err: err}
		}
		c := w.cfg.Cluster
		if err := w.keys.UseFiles(security.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile, Log: w.log}); err != nil {
			return &config.Error{Source: "cluster.cert_file", Err: err}
		}
	}
	parts, err := w.parts()
	if err != nil {
		return err
	}
	endpoint, err := w.listen()
	if err != nil {
		return err
	}
	session, err := w.join(ctx, asked.stop, endpoint)
	if err != nil {
		return err
	}
	parts.Flight = w.flight
	parts.Session, parts.Member, parts.Node = session, w.spec.Member, w.spec.Node
	parts.Connector = w.device.Connector(endpoint, w.log.With("part", "allreduce"))
	cfg, err := w.trainerConfig()
	if err != nil {
		return err
	}
	t, err := trainer.New(cfg, parts)
	if err != nil {
		return err
	}
	return w.train(ctx, asked, t, session)
}

// train runs the loop next to the signals and the session's end.
func (w *worker) train(ctx context.Context, asked requests, t *trainer.Trainer, session *coordinator.Session) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	stopping := session.Stopping()
	go func() {
		defer close(watched)
		for {
			select {
			case <-ctx.Done():
				return
			case <-asked.save:
				t.RequestSave()
			case <-asked.stop:
				t.RequestStop()
				asked.stop = nil
			case <-stopping:
				t.RequestStop()
				stopping = nil
			}
		}
	}()
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-ctx.Done():
		case <-session.Done():
			if err := session.Err(); err != nil {
				cancel(err)
			}
		}
	}()
	err := w.steps(ctx, t, session)
	cancel(nil)
	<-watched
	<-over
	return err
}

// steps trains on this goroutine to the end, and reports it.
func (w *worker) steps(ctx context.Context, t *trainer.Trainer, session *coordinator.Session) error {
	release, err := w.device.Pin(w.cfg, w.spec.Slot)
	if err != nil {
		return err
	}
	defer release()
	outcome, err := t.Run(ctx)
	if err != nil {
		return err
	}
	return w.farewell(ctx, t, session, outcome)
}

// The time for the last words to the coordinator. A stop does not wait long: the state
// is saved, and the agent sees the process end.
const (
	farewellTime = 10 * time.Second
	leaveTime    = 2 * time.Second
)

func (w *worker) farewell(ctx context.Context, t *trainer.Trainer, session *coordinator.Session, outcome trainer.Outcome) error {
	limit := farewellTime
	if outcome == trainer.Stopped {
		limit = leaveTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if outcome == trainer.Finished {
		// A finish that nobody heard is none: whoever is started in this
		// process's place reads the checkpoint and says it again.
		if err := finish(ctx, t.State(), session); err != nil {
			if end := session.Err(); end != nil {
				err = end
			}
			return fmt.Errorf("worker: cannot report the finish: %w", err)
		}
	}
	if err := session.Leave(ctx); err != nil {
		w.log.Info("the coordinator was not told that this worker leaves", "err", err)
	}
	if outcome == trainer.Stopped {
		return errStopped
	}
	return nil
}

// finish reports the end of the run for the newest generation, which may be
// newer than the one that committed the last step: somebody joined or was lost
// since. A generation that is formed just now fences the word off; the model is
// final all the same, so it is said again.
func finish(ctx context.Context, s *trainer.State, session *coordinator.Session) error {
	f := cluster.Finish{Step: s.Step, Digest: trainer.Digest(s)}
	for {
		err := session.Finish(ctx, f)
		if !errors.Is(err, cluster.ErrFenced) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

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
	if err := dev.Fits(c); err != nil {
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

// listen opens the port that gradients come in by.
func (w *worker) listen() (*mesh.Endpoint, error) {
	c := w.cfg.Cluster
	port := c.DataPort
	if port != 0 {
		port += w.spec.Slot
	}
	cfg := mesh.EndpointConfig{
		Addr: net.JoinHostPort(c.Bind, strconv.Itoa(port)), RunID: w.spec.RunID, Logger: w.log.With("part", "allreduce"),
		Flight: w.flight,
	}
	if w.keys != nil {
		level, err := mesh.ParseSecurity(w.cfg.AllReduce.Security)
		if err != nil {
			return nil, &config.Error{Source: "allreduce.security", Err: err}
		}
		cfg.Secret, cfg.Security = w.keys.DataKey(), level
	}
	e, err := mesh.Listen(cfg)
	if err != nil {
		return nil, err
	}
	w.later(e.Close)
	return e, nil
}

// build is what all workers of a run must have in common: the same program, and kernels
// that round alike. Where all processors do, the program may be compiled for several, and
// its file differs: there its version alone counts.
func (w *worker) build() string {
	b := version.Build()
	if exe := w.spec.Executable; exe != "" && !w.device.Portable() {
		b += " " + exe[:min(16, len(exe))]
	}
	return b + cluster.On + w.device.Rounding
}

// join registers with the coordinator.
func (w *worker) join(ctx context.Context, stop <-chan struct{}, endpoint *mesh.Endpoint) (*coordinator.Session, error) {
	cc := coordinator.ClientConfig{Resolve: w.spec.FindCoordinator, Logger: w.log.With("part", "coordinator")}
	if w.keys != nil {
		cc.Credentials = w.keys.ClientCredentials()
	}
	client, err := coordinator.Dial(cc)
	if err != nil {
		return nil, err
	}
	w.later(client.Close)
	addr, err := spec.Reachable(endpoint.Addr(), w.spec.Advertised)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for people only
	member := cluster.Member{
		ID: w.spec.Member, Node: w.spec.Node, Slot: w.spec.Slot, DataAddr: addr, Host: host,
		RunID: w.spec.RunID, ConfigHash: w.cfg.SharedHash(), PID: os.Getpid(),
		Build: w.build(),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			cancel(errStopped)
		case <-done:
		}
	}()
	session, err := client.Join(ctx, member)
	if err != nil && errors.Is(context.Cause(ctx), errStopped) {
		return nil, errStopped
	}
	return session, err
}
