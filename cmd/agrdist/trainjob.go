package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/status/trainjob"
)

// trainJob tells the Kubeflow TrainJob that a run is part of where it stands. Rank 0's
// node speaks for the run. nil: there is none.
type trainJob struct {
	pusher *trainjob.Pusher
	batch  int
	last   *trainjob.Progress // nil: another node speaks
}

func newTrainJob(ctx context.Context, batch int, view, out io.Writer) *trainJob {
	c, ok := trainjob.FromEnvironment(os.Getenv)
	if !ok {
		return nil
	}
	c.Logger = slog.New(slog.NewTextHandler(view, nil))
	if j, ok := out.(*jsonLines); ok {
		c.Logger = j.log
	}
	return &trainJob{pusher: trainjob.Start(ctx, c), batch: batch}
}

func (t *trainJob) observe(s cluster.Status, leads bool) {
	if t == nil {
		return
	}
	before := t.last
	t.last = nil
	if leads && s.Step >= 0 {
		t.last = progressOf(s, t.batch)
	}
	if before != nil || t.last != nil {
		t.pusher.Observe(t.last)
	}
}

// progressOf is a status as the TrainJob shows it; batch is images a step.
func progressOf(s cluster.Status, batch int) *trainjob.Progress {
	p := &trainjob.Progress{Step: s.Step, Steps: s.TotalSteps, Remaining: -1}
	if s.ImagesPerSecond > 0 {
		p.Remaining = time.Duration(float64(s.TotalSteps-s.Step) * float64(batch) / s.ImagesPerSecond * float64(time.Second))
	}
	p.Metrics = []trainjob.Metric{
		{Name: "step", Value: float64(s.Step)},
		{Name: "loss", Value: s.Loss},
		{Name: "grad_norm", Value: s.GradNorm},
		{Name: "learning_rate", Value: s.LR},
		{Name: "images_per_second", Value: s.ImagesPerSecond},
		{Name: "workers", Value: float64(s.Generation.World())},
	}
	return p
}

// close says how the run ended, if this node spoke for it.
func (t *trainJob) close(o launch.Outcome) {
	if t == nil {
		return
	}
	if t.last != nil && o.Ending == launch.Finished {
		t.last.Step, t.last.Remaining = t.last.Steps, 0
	}
	t.pusher.Close(t.last)
}
