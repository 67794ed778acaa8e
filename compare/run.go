package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/eval/suite"
)

// Lab trains and judges. Both find again what is finished and continue what was
// interrupted; both may be called by several goroutines for different runs.
type Lab interface {
	// Train takes a run to its end. ErrDiverged, wrapped, says that it cannot get there.
	Train(ctx context.Context, c *config.Config) (Trained, error)
	// Judge evaluates the checkpoint of a step of a run.
	Judge(ctx context.Context, c *config.Config, step int64, weights string, e Eval) (suite.Record, error)
	// Loss measures the held-out loss alone, at the last step.
	Loss(ctx context.Context, c *config.Config, weights string) (suite.Record, error)
}

// ErrDiverged is wrapped by Lab.Train where a run's loss is not finite any more: a
// result, not a failure of the experiment.
var ErrDiverged = errors.New("diverged")

// Trained is a finished run.
type Trained struct {
	Digest string    // model_digest
	Hash   string    // of the configuration
	Losses []float64 // training loss of each step, NaN where no event tells of it
	Sample string    // the last sample grid, "" where there is none
}

// Point is one evaluation.
type Point struct {
	Method  string
	Seed    uint64
	Step    int64
	Weights string
	Record  suite.Record
}

// Run is one run of the comparison.
type Run struct {
	Method string
	Seed   uint64
	Dir    string
	Trained
	Diverged string // why, where it did
}

// Trial is one run of the sweep.
type Trial struct {
	Method string
	Tuned  []string
	Seed   uint64
	Value  float64 // of Tune.By; +Inf or -Inf where it diverged
}

// Results is what an experiment found, in the order of the plan.
type Results struct {
	Plan   *Plan
	Trials []Trial
	Chosen map[string][]string // method -> tuned settings
	Runs   []Run
	Points []Point
}

// Options of Execute.
type Options struct {
	Parallel int // runs at once, at least 1
	// Progress, where not nil, is told of every finished piece of work; left is an
	// estimate, 0 where there is none yet. It is called from one goroutine at a time.
	Progress func(text string, done, total int, left time.Duration)
}

// Execute carries out a plan: first the sweep, then the comparison. An error ends it;
// what is finished is found again by the next call.
func (p *Plan) Execute(ctx context.Context, lab Lab, o Options) (*Results, error) {
	r := &Results{Plan: p, Chosen: map[string][]string{}}
	tuning, comparison := p.Runs()
	x := &executor{plan: p, lab: lab, o: o, total: tuning + comparison, begun: time.Now()}
	if err := x.tune(ctx, r); err != nil {
		return nil, err
	}
	return r, x.compare(ctx, r)
}

type executor struct {
	plan *Plan
	lab  Lab
	o    Options

	mu    sync.Mutex
	done  int
	total int
	begun time.Time
}

// all does n pieces of work, several at once, in order of their start.
func (x *executor) all(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, x.o.Parallel) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// finished reports a piece of work.
func (x *executor) finished(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.done++
	if x.o.Progress != nil {
		left := time.Duration(float64(time.Since(x.begun)) / float64(x.done) * float64(x.total-x.done))
		x.o.Progress(fmt.Sprintf(format, args...), x.done, x.total, left)
	}
}

// tune runs the sweep and chooses for each method.
func (x *executor) tune(ctx context.Context, r *Results) error {
	p := x.plan
	for _, m := range p.Methods {
		for _, tuned := range p.combinations(m) {
			for _, seed := range p.Tune.Seeds {
				r.Trials = append(r.Trials, Trial{Method: m.Name, Tuned: tuned, Seed: seed})
			}
		}
	}
	err := x.all(ctx, len(r.Trials), func(ctx context.Context, i int) error {
		t := &r.Trials[i]
		value, err := x.trial(ctx, *t)
		if err != nil {
			return fmt.Errorf("tuning %s with %v: %w", t.Method, t.Tuned, err)
		}
		t.Value = value
		x.finished("tuned %s %v: %s %.4g", t.Method, t.Tuned, p.Tune.By, value)
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range p.Methods {
		if r.Chosen[m.Name], err = p.choose(m, r.Trials); err != nil {
			return err
		}
	}
	return nil
}

// trial is one run of the sweep and its criterion.
func (x *executor) trial(ctx context.Context, t Trial) (float64, error) {
	p := x.plan
	m := p.method(t.Method)
	q := *p
	q.At = nil // nothing is evaluated on the way
	c, err := q.config(m, t.Tuned, t.Seed, p.Tune.Steps, p.tuneDir(m, t.Tuned, t.Seed))
	if err != nil {
		return 0, err
	}
	if _, err := x.lab.Train(ctx, c); err != nil {
		if errors.Is(err, ErrDiverged) {
			return worst(p.Tune.By), nil
		}
		return 0, err
	}
	var record suite.Record
	if p.Tune.By == suite.HeldOutLoss {
		record, err = x.lab.Loss(ctx, c, p.Eval.Weights[0])
	} else {
		record, err = x.lab.Judge(ctx, c, c.Train.Steps, p.Eval.Weights[0], p.Eval)
	}
	if err != nil {
		return 0, err
	}
	v, ok := record.Metrics[p.Tune.By]
	if !ok {
		return 0, fmt.Errorf("tune.by is %q, which this evaluation does not have; it has %v", p.Tune.By, metricNames(record.Metrics))
	}
	if v.Value != v.Value {
		return worst(p.Tune.By), nil
	}
	return v.Value, nil
}

func (p *Plan) method(name string) Method {
	for _, m := range p.Methods {
		if m.Name == name {
			return m
		}
	}
	panic("compare: no method " + name)
}

// choose is the combination with the best mean over the sweep's seeds; the first of
// equals.
func (p *Plan) choose(m Method, trials []Trial) (best []string, err error) {
	bestValue := math.NaN()
	for _, tuned := range p.combinations(m) {
		mean := p.sweepMean(m.Name, tuned, trials)
		if !math.IsInf(mean, 0) && (bestValue != bestValue || better(p.Tune.By, mean, bestValue)) {
			best, bestValue = tuned, mean
		}
	}
	if best == nil && len(p.combinations(m)) > 0 {
		return nil, fmt.Errorf("%s diverges with every value of the sweep; add smaller learning rates to tune", m.Name)
	}
	return best, nil
}

// sweepMean is the mean of a combination's trials.
func (p *Plan) sweepMean(method string, tuned []string, trials []Trial) (mean float64) {
	for _, t := range trials {
		if t.Method == method && fmt.Sprint(t.Tuned) == fmt.Sprint(tuned) {
			mean += t.Value / float64(len(p.Tune.Seeds))
		}
	}
	return mean
}

// compare runs and evaluates every method on every seed, seed by seed, so that an
// experiment that is cut short has whole seeds.
func (x *executor) compare(ctx context.Context, r *Results) error {
	p := x.plan
	for _, seed := range p.Seeds {
		for _, m := range p.Methods {
			r.Runs = append(r.Runs, Run{Method: m.Name, Seed: seed, Dir: p.runDir(m, seed)})
		}
	}
	points := make([][]Point, len(r.Runs))
	err := x.all(ctx, len(r.Runs), func(ctx context.Context, i int) (err error) {
		run := &r.Runs[i]
		if points[i], err = x.run(ctx, run, r.Chosen[run.Method]); err != nil {
			return fmt.Errorf("%s, seed %d: %w", run.Method, run.Seed, err)
		}
		if run.Diverged != "" {
			x.finished("%s, seed %d: %s", run.Method, run.Seed, run.Diverged)
		} else {
			x.finished("%s, seed %d: digest %.12s", run.Method, run.Seed, run.Digest)
		}
		return nil
	})
	for _, list := range points {
		r.Points = append(r.Points, list...)
	}
	return err
}

// run trains and evaluates one run.
func (x *executor) run(ctx context.Context, run *Run, tuned []string) (points []Point, err error) {
	p := x.plan
	c, err := p.config(p.method(run.Method), tuned, run.Seed, 0, run.Dir)
	if err != nil {
		return nil, err
	}
	if run.Trained, err = x.lab.Train(ctx, c); err != nil {
		if errors.Is(err, ErrDiverged) {
			run.Diverged = err.Error()
			return nil, nil
		}
		return nil, err
	}
	for _, step := range p.At {
		for _, weights := range p.Eval.Weights {
			record, err := x.lab.Judge(ctx, c, step, weights, p.Eval)
			if err != nil {
				return nil, err
			}
			points = append(points, Point{Method: run.Method, Seed: run.Seed, Step: step, Weights: weights, Record: record})
		}
	}
	return points, nil
}
