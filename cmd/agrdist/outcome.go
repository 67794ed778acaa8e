package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/metrics"
)

// conclude says how the run ended and where everything is.
func (r *runner) conclude(end cluster.End, took time.Duration) error {
	switch end.Outcome {
	case cluster.OutcomeFinished:
		r.finished(end, took)
		return nil
	case cluster.OutcomeStopped:
		return &exitError{exitSignal, r.stopped(end)}
	case cluster.OutcomeFailed, cluster.OutcomeNone:
	}
	return &exitError{max(end.ExitCode, exitFailed), fmt.Sprintf("the run failed: %s\nlogs: %s", end.Reason, filepath.Join(r.cfg.Out, "logs"))}
}

// stopped says what a stop left and how to go on.
func (r *runner) stopped(end cluster.End) string {
	if end.Step < 0 {
		return "stopped before a step was made\nstart again with: " + r.command
	}
	where := "on the node of " + r.leader()
	if dir := filepath.Join(r.cfg.Out, "checkpoints"); exists(filepath.Join(dir, checkpoint.DirName(end.Step))) {
		where = "in " + dir
	}
	return fmt.Sprintf("stopped after step %d of %d; saved %s\nresume with: %s", end.Step, r.cfg.Train.Steps, where, r.command)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (r *runner) finished(end cluster.End, took time.Duration) {
	out := r.cfg.Out
	fmt.Fprintf(r.stdout, "finished: %d steps in %s, ", end.Step, roundTime(took))
	if loss, ok := lossOf(filepath.Join(r.dir, "events.jsonl"), end.Step); ok {
		fmt.Fprintf(r.stdout, "loss %.4f, ", loss)
	}
	fmt.Fprintln(r.stdout, plural(len(r.last.Generation.Members), "worker"))
	saved := filepath.Join(out, "checkpoints", checkpoint.DirName(end.Step))
	if !exists(saved) { // rank 0 keeps them
		fmt.Fprintf(r.stdout, "  %-11s %s\nsamples and checkpoints are on the node of %s\n", "digest", end.Digest, r.leader())
		return
	}
	for _, f := range []struct{ what, path, note string }{
		{"samples", filepath.Join(out, "samples", fmt.Sprintf("step-%d.png", end.Step)), ""},
		{"checkpoint", saved, " (verified)"},
		{"events", filepath.Join(out, "events.jsonl"), ""},
	} {
		if exists(f.path) {
			fmt.Fprintf(r.stdout, "  %-11s %s%s\n", f.what, f.path, f.note)
		}
	}
	fmt.Fprintf(r.stdout, "  %-11s %s\ndraw more: %s sample --from %s --out grid.png\n", "digest", end.Digest, program(os.Args[0]), out)
}

// leader is rank 0 in the last generation seen.
func (r *runner) leader() string {
	if len(r.last.Generation.Members) == 0 {
		return "rank 0"
	}
	return r.last.Generation.Members[0].Node
}

// lossOf finds the loss of a step in the events; the node of rank 0 has them. The
// last status is no place for it: the workers have left by then.
func lossOf(events string, step int64) (loss float64, ok bool) {
	f, err := os.Open(events)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e metrics.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == metrics.EventStep && e.Step == step && e.Loss != nil {
			loss, ok = *e.Loss, true
		}
	}
	return loss, ok
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func short(digest string) string { return digest[:min(12, len(digest))] }
