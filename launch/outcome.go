package launch

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"slices"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/worker/spec"
)

// Ending says how a run ended.
type Ending int

// Endings.
const (
	Finished Ending = iota + 1 // all steps are done and saved
	Already                    // it was finished before; nothing was done
	Stopped                    // as asked; see Saved
	Failed
	Left // this node left, and the run continues on others
)

// Outcome is what became of a run.
type Outcome struct {
	Ending Ending
	Dir    rundir.Dir
	Step   int64  // steps done; -1: it never began
	Steps  int64  // steps of the configuration
	Digest string // model_digest of the final state; Finished and Already
	// Saved is where the state is that the run ended or stopped with, as this node's
	// workers heard from the one that wrote; nil: they heard nothing of the kind.
	Saved *spec.Saved
	// Mirror is what checkpoint.mirror has of it; nil: there is none, or this node wrote no
	// checkpoint.
	Mirror *Mirror
	// Newest is the step of the newest checkpoint in this node's directory; -1: none.
	Newest int64
	// Loss of the last step; nil where it is not known: the node of rank 0 has the
	// events.
	Loss   *float64
	World  int    // workers of the last generation that was seen
	Node   string // this node
	Leader string // node of that generation's rank 0, which writes events and samples; "" if none was seen
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
		Node: r.node, Saved: r.saved.Load(), Newest: r.newestStep(), Took: took,
	}
	if o.Step < 0 { // nobody said; the events may
		o.Step = lastStep(r.dir.Events(), r.told)
	}
	if s := r.last.Load(); s != nil && len(s.Generation.Members) > 0 {
		o.World, o.Leader = s.Generation.World(), s.Generation.Members[0].Node
	}
	switch end.Outcome {
	case cluster.OutcomeFinished:
		o.Ending, o.Code = Finished, 0
		o.Loss = lossOf(r.dir.Events(), end.Step)
	case cluster.OutcomeStopped:
		o.Ending, o.Code = Stopped, cluster.ExitStopped
		if end.SavedOn != "" && (o.Saved == nil || o.Saved.Step < end.Step) {
			// This node's workers had no part in it: others saved, and the coordinator says so.
			o.Saved = &spec.Saved{Step: end.Step, Node: end.SavedOn}
		}
		switch {
		case o.Saved != nil:
			o.Step = max(o.Step, o.Saved.Step)
		case o.Step >= 0: // the code says "after a checkpoint", and there is none
			o.Code = cluster.ExitFailed
		}
	case cluster.OutcomeFailed, cluster.OutcomeNone:
		o.Ending, o.Code = Failed, max(end.ExitCode, cluster.ExitFailed)
		if r.stopped.Load() && o.Saved != nil && o.Saved.Step >= o.Step {
			// The coordinator did not hear of it, cut off as it was: the state is saved,
			// as was asked for.
			o.Ending, o.Step, o.Code = Stopped, o.Saved.Step, cluster.ExitStopped
		}
	}
	return o
}

// newestStep is the newest checkpoint of this node's directory, by its name.
func (r *run) newestStep() int64 {
	infos, _, err := r.dir.Store(checkpoint.Options{}).List()
	if err != nil || len(infos) == 0 {
		return -1 // it is only for people
	}
	return infos[0].Step
}

// lastStep is the last step of the events behind the first told bytes of a file, all where
// it is shorter; -1: there is none. Their times say nothing: somebody may set the clock.
func lastStep(path string, told int64) int64 {
	f, err := os.Open(path)
	if err != nil {
		return -1 // none were written
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() >= told {
		_, err = f.Seek(told, io.SeekStart)
		if err != nil {
			return -1
		}
	}
	step := int64(-1)
	for s := bufio.NewScanner(f); s.Scan(); {
		var e metrics.Event
		if json.Unmarshal(s.Bytes(), &e) == nil && e.Event == metrics.EventStep {
			step = e.Step
		}
	}
	return step
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
