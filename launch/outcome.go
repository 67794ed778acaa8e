package launch

import (
	"slices"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/rundir"
)

// Ending says how a run ended.
type Ending int

// Endings.
const (
	Finished Ending = iota + 1 // all steps are done and saved
	Already                    // it was finished before; nothing was done
	Stopped                    // by a signal
	Failed
)

// Outcome is what became of a run.
type Outcome struct {
	Ending Ending
	Dir    rundir.Dir
	Step   int64  // steps done; -1: it never began
	Steps  int64  // steps of the configuration
	Digest string // model_digest of the final state; Finished and Already
	// Loss of the last step; nil where it is not known: the node of rank 0 has the
	// events.
	Loss   *float64
	World  int    // workers of the last generation that was seen
	Leader string // node of its rank 0, which writes checkpoints and samples; "" if none was seen
	// Reason is why the run failed or was stopped, one line.
	Reason string
	// Code is the exit code that says all this to a process manager.
	Code int
	Took time.Duration
}

// outcome interprets the run's end.
func (r *run) outcome(end cluster.End, took time.Duration) Outcome {
	o := Outcome{
		Dir: r.dir, Step: end.Step, Steps: r.cfg.Train.Steps, Digest: end.Digest, Reason: end.Reason, Code: end.ExitCode,
		World: len(r.last.Generation.Members), Took: took,
	}
	if o.World > 0 {
		o.Leader = r.last.Generation.Members[0].Node
	}
	switch end.Outcome {
	case cluster.OutcomeFinished:
		o.Ending, o.Code = Finished, 0
		o.Loss = lossOf(r.dir.Events(), end.Step)
	case cluster.OutcomeStopped:
		o.Ending, o.Code = Stopped, cluster.ExitStopped
	case cluster.OutcomeFailed, cluster.OutcomeNone:
		o.Ending, o.Code = Failed, max(end.ExitCode, cluster.ExitFailed)
	}
	return o
}

// lossOf finds the loss of a step in the events. The last status is no place for it:
// the workers have left by then.
func lossOf(path string, step int64) (loss *float64) {
	events, err := metrics.History(path)
	if err != nil {
		return nil // it is only for people
	}
	for _, e := range slices.Backward(events) {
		if e.Event == metrics.EventStep && e.Step == step && e.Loss != nil {
			return e.Loss
		}
	}
	return nil
}
