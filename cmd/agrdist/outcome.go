package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/launch"
)

// conclude says how the run ended and where everything is.
func (r *runner) conclude(o launch.Outcome) error {
	if j, ok := r.stdout.(*jsonLines); ok && (o.Ending == launch.Finished || o.Ending == launch.Already) {
		j.finished(o)
		return nil
	}
	switch o.Ending {
	case launch.Finished:
		r.finished(o)
		return nil
	case launch.Already:
		fmt.Fprintf(r.stdout, `%s is finished: %d of %d steps, digest %s
  continue   add --set train.steps=%d
  start over add --resume never (the old run is set aside), or --out DIR
`, r.cfg.Out, o.Step, o.Steps, short(o.Digest), 2*o.Step)
		if o.Mirror != nil {
			fmt.Fprintf(r.stdout, "  %-10s %s\n", "mirror", mirrorText(o.Mirror))
		}
		return nil
	case launch.Stopped:
		return &exitError{o.Code, r.stopped(o)}
	case launch.Left:
		return &exitError{o.Code, o.Reason + "\njoin it again with: " + r.command}
	case launch.Failed:
	}
	text := "the run failed: " + o.Reason
	if o.Saved != nil {
		text += "\nthe state of step " + fmt.Sprint(o.Saved.Step) + " was saved " + r.place(o)
	}
	return &exitError{o.Code, text + "\nlogs: " + filepath.Join(r.cfg.Out, "logs")}
}

// stopped says what a stop left and how to continue.
func (r *runner) stopped(o launch.Outcome) string {
	switch {
	case o.Step < 0:
		return "stopped before a step was made\nstart again with: " + r.command
	case o.Saved == nil:
		left := "there is no checkpoint in " + filepath.Join(r.cfg.Out, "checkpoints")
		if o.Newest >= 0 {
			left = fmt.Sprintf("the newest checkpoint in %s is that of step %d", filepath.Join(r.cfg.Out, "checkpoints"), o.Newest)
		}
		return fmt.Sprintf("stopped after step %d of %d (%s), and NOTHING WAS SAVED as far as this node's workers heard; %s\nlogs: %s\nresume with: %s",
			o.Step, o.Steps, o.Reason, left, filepath.Join(r.cfg.Out, "logs"), r.command)
	}
	return fmt.Sprintf("stopped after step %d of %d; saved %s\nresume with: %s", o.Step, o.Steps, r.place(o), r.command)
}

// mirrorText says whether an object store has the last checkpoint.
func mirrorText(m *launch.Mirror) string {
	switch {
	case m.Err == nil:
		return m.Place + " has it"
	case m.Step < 0:
		return fmt.Sprintf("%s does NOT have it: %v", m.Place, m.Err)
	}
	return fmt.Sprintf("%s does NOT have it, its newest is that of step %d: %v", m.Place, m.Step, m.Err)
}

// place says where the last state was saved.
func (r *runner) place(o launch.Outcome) string {
	text := r.placeHere(o)
	if o.Mirror != nil {
		text += "; " + mirrorText(o.Mirror)
	}
	return text
}

func (r *runner) placeHere(o launch.Outcome) string {
	also := ""
	if nodes := holders(o); len(nodes) > 1 {
		also = " (on nodes " + strings.Join(nodes, " and ") + ")"
	}
	if exists(o.Dir.Checkpoint(o.Saved.Step)) {
		return "in " + filepath.Join(r.cfg.Out, "checkpoints") + also
	}
	if o.Saved.Path == "" { // this node's workers did not hear it themselves
		return "on node " + o.Saved.Node
	}
	return fmt.Sprintf("on node %s in %s", o.Saved.Node, o.Saved.Path) + also
}

// holders are the nodes that have the last state on disk.
func holders(o launch.Outcome) []string {
	if o.Saved == nil {
		return nil
	}
	return append([]string{o.Saved.Node}, o.Saved.Also...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (r *runner) finished(o launch.Outcome) {
	fmt.Fprintf(r.stdout, "finished: %d steps in %s, ", o.Step, roundTime(o.Took))
	if o.Loss != nil {
		fmt.Fprintf(r.stdout, "loss %.4f, ", *o.Loss)
	}
	fmt.Fprintln(r.stdout, plural(o.World, "worker"))
	verified := " (verified)"
	nodes := holders(o)
	if len(nodes) > 1 {
		verified = " (verified, on nodes " + strings.Join(nodes, " and ") + ")"
	}
	here := exists(o.Dir.Checkpoint(o.Step))
	if !here || len(nodes) > 1 && o.Leader != o.Node { // rank 0 keeps them
		what := "samples and checkpoints are"
		if here {
			what = "samples and events are"
			fmt.Fprintf(r.stdout, "  %-11s %s%s\n", "checkpoint", filepath.Join(r.cfg.Out, "checkpoints", checkpoint.DirName(o.Step)), verified)
		}
		fmt.Fprintf(r.stdout, "  %-11s %s\n%s on node %s\n", "digest", o.Digest, what, leader(o))
		return
	}
	out := r.cfg.Out // as the user wrote it
	for _, f := range []struct{ what, path, note string }{
		{"samples", filepath.Join(out, "samples", filepath.Base(o.Dir.Sample(o.Step))), ""},
		{"checkpoint", filepath.Join(out, "checkpoints", checkpoint.DirName(o.Step)), verified},
		{"events", filepath.Join(out, filepath.Base(o.Dir.Events())), ""},
	} {
		if exists(f.path) {
			fmt.Fprintf(r.stdout, "  %-11s %s%s\n", f.what, f.path, f.note)
		}
	}
	if o.Mirror != nil {
		fmt.Fprintf(r.stdout, "  %-11s %s\n", "mirror", mirrorText(o.Mirror))
	}
	fmt.Fprintf(r.stdout, "  %-11s %s\nsample more: %s sample --from %s --out grid.png\n", "digest", o.Digest, program(os.Args[0]), quoted(out))
}

// leader is the node of rank 0 in the last generation seen.
func leader(o launch.Outcome) string {
	if o.Leader == "" {
		return "of rank 0"
	}
	return o.Leader
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func short(digest string) string { return digest[:min(12, len(digest))] }
