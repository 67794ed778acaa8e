package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/trainer"
)

// CountConfig is a step to be counted.
type CountConfig struct {
	Preset    string // digits, small or full
	Batch     int    // images of the step, in one chunk
	Precision string // f32 or bf16
}

// CountResult is what a training step asks of a GPU.
type CountResult struct {
	Preset    string `json:"preset"`
	Batch     int    `json:"batch"`
	Precision string `json:"precision"`
	tensor.Counts
}

// countWarmUp is how many steps precede the counted one: the first runs the operations
// one by one, the second records them.
const countWarmUp = 3

// Count counts what one step of one worker that trains alone asks of its GPU: kernels,
// calls of libraries, graphs, waits, and the bytes that they move. It is the trainer's
// own step (package trainer), on images of zeros. The counts do not depend on how
// fast the device is, or on whether it computes at all.
func Count(ctx context.Context, c CountConfig) (CountResult, error) {
	r := CountResult{Preset: c.Preset, Batch: c.Batch, Precision: c.Precision}
	if c.Batch < 1 {
		return r, fmt.Errorf("batch is %d; set it to 1 or more", c.Batch)
	}
	model, err := preset(c.Preset)
	if err != nil {
		return r, err
	}
	cfg := config.Default()
	cfg.Model = model
	cfg.Train.GlobalBatch, cfg.Train.Chunk, cfg.Train.Precision = c.Batch, c.Batch, c.Precision
	dev, err := setup.Open(setup.DeviceConfig{Device: "cuda", Precision: c.Precision, Threads: 1})
	if err != nil {
		return r, err
	}
	defer func() { _ = dev.Close() }() // nothing of it is kept
	counter, ok := dev.Backend.(tensor.Counter)
	if !ok {
		return r, fmt.Errorf("%s counts nothing", dev.Backend.Name())
	}
	keep, err := dev.Fits(&cfg)
	if err != nil {
		return r, err
	}
	net, err := setup.Model(dev.Backend, &cfg)
	if err != nil {
		return r, err
	}
	net.KeepActivations(keep)
	pass, err := dev.Pass(&cfg, net.Params())
	if err != nil {
		return r, err
	}
	process := trainer.Process{Weighting: setup.Weighting(&cfg)}
	if process.Schedule, process.Prediction, err = setup.Process(&cfg); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alone := newLoner(counter, cancel)
	t, err := trainer.New(trainer.Config{
		Seed: 1, Steps: countWarmUp + 2, GlobalBatch: c.Batch, Chunk: c.Batch,
		MaxGradNorm: cfg.Train.ClipGradNorm, EMADecay: cfg.Train.EMADecay, LR: setup.LearningRate(&cfg).At,
		BucketBytes: int(cfg.AllReduce.BucketMB * (1 << 20)), OpTimeout: allreduce.DefaultOpTimeout,
	}, trainer.Parts{
		Backend: dev.Backend, Model: net, Pass: always{pass}, Process: process, Loader: alone,
		Height: model.SampleSize, Width: model.SampleSize, Channel: model.InChannels,
		Session: alone, Connector: dev.Connector(alone, nil), Member: lonerID, Observer: alone,
	})
	if err != nil {
		return r, err
	}
	if _, err := t.Run(ctx); !errors.Is(err, errCounted) {
		return r, fmt.Errorf("the step was not counted: %w", err)
	}
	r.Counts = alone.counted
	return r, nil
}

// Print prints a table of the operations, with a line for each class, and the sums.
func (r CountResult) Print(w io.Writer) error {
	var own, library, all tensor.Operation
	add := func(to *tensor.Operation, o tensor.Operation) {
		to.Calls += o.Calls
		to.Bytes += o.Bytes
	}
	line := func(name string, o tensor.Operation) {
		fmt.Fprintf(w, "%-38s %6d %10.1f\n", name, o.Calls, float64(o.Bytes)/1e6)
	}
	fmt.Fprintf(w, "# one training step of one worker: %s, batch %d, %s\n%-38s %6s %10s\n", r.Preset, r.Batch, r.Precision, "operation", "calls", "MB")
	for rest := r.Operations; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(o tensor.Operation) bool { return o.Class != rest[0].Class })
		if n < 0 {
			n = len(rest)
		}
		var sum tensor.Operation
		for _, o := range rest[:n] {
			add(&sum, o)
			add(&all, o)
			if o.Own {
				add(&own, o)
			} else if o.Class != "copies" {
				add(&library, o)
			}
		}
		line(rest[0].Class, sum)
		for _, o := range rest[:n] {
			line("  "+o.Name, o)
		}
		rest = rest[n:]
	}
	fmt.Fprintln(w)
	line("kernels of this project", own)
	line("library calls", library)
	line("all", all)
	_, err := fmt.Fprintf(w, "%-38s %6d\n%-38s %6d\n%-38s %6d\n%-38s %6d\n",
		"launches outside of graphs", r.Launches, "graph launches", r.Graphs, "graph nodes", r.Nodes, "waits of the host", r.Waits)
	return err
}

// always is a pass whose gradients are taken for finite, so that the update is
// counted where nothing was computed.
type always struct{ agr.Pass }

func (p always) Measure(u optim.Update) (optim.Stats, error) {
	s, err := p.Pass.Measure(u)
	s.Finite = true
	return s, err
}

// errCounted ends the run.
var errCounted = errors.New("bench: the step was counted")

const lonerID = cluster.MemberID("alone")

// loner is all that a trainer without peers needs besides its model, and counts a step.
type loner struct {
	trainer.Observer // steps alone are told

	counter     tensor.Counter
	end         context.CancelCauseFunc
	counted     tensor.Counts
	generations chan cluster.Generation
	aborts      chan cluster.Abort
}

func newLoner(c tensor.Counter, end context.CancelCauseFunc) *loner {
	l := &loner{counter: c, end: end, generations: make(chan cluster.Generation, 1), aborts: make(chan cluster.Abort)}
	l.generations <- cluster.Generation{Number: 1, Members: []cluster.Member{{ID: lonerID}}}
	return l
}

// LoadContext implements trainer.Loader.
func (l *loner) LoadContext(_ context.Context, dst []float32, _ []int64) error {
	clear(dst)
	return nil
}

// Generations implements trainer.Session.
func (l *loner) Generations() <-chan cluster.Generation { return l.generations }

// Aborts implements trainer.Session.
func (l *loner) Aborts() <-chan cluster.Abort { return l.aborts }

// Report implements trainer.Session.
func (l *loner) Report(cluster.Report) {}

// Connect implements setup.Connector.
func (l *loner) Connect(_ context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	return allreduce.NewLocal(1, c.Plan)[0], nil
}

// Generation implements trainer.Observer.
func (l *loner) Generation(cluster.Generation, int, int64) {}

// Start implements trainer.Observer.
func (l *loner) Start(trainer.Started) {}

// Step implements trainer.Observer.
func (l *loner) Step(s trainer.StepInfo) {
	switch s.Step {
	case countWarmUp:
		l.counter.Count()
	case countWarmUp + 1:
		l.counted = l.counter.Counts()
		l.end(errCounted)
	}
}
