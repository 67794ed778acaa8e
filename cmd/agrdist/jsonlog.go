package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/launch"
)

// jsonLines is output for log collectors (log.format: json): one object a line, all on
// stdout. Text that is written to it becomes the message of a record.
type jsonLines struct{ log *slog.Logger }

// speakJSON makes a command say everything, its errors included, as JSON.
func speakJSON(c *cobra.Command, node string) {
	var log *slog.Logger
	if j, ok := c.OutOrStdout().(*jsonLines); ok {
		log = j.log
	} else {
		log = newJSONLog(c.OutOrStdout())
	}
	if node != "" {
		log = log.With("node", node)
	}
	j := &jsonLines{log}
	c.SetOut(j)
	c.SetErr(j)
}

func newJSONLog(out io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(out, nil)) }

// sayJSON makes a record whose message is text for people, not a constant.
func sayJSON(log *slog.Logger, level slog.Level, text string, fields ...any) {
	r := slog.NewRecord(time.Now(), level, text, 0)
	r.Add(fields...)
	_ = log.Handler().Handle(context.Background(), r) // as slog.Logger does
}

// wantsJSON tells what the environment says, for errors of the configuration itself.
func wantsJSON() bool { return strings.TrimSpace(os.Getenv("AGRDIST_LOG_FORMAT")) == config.JSON }

// Write makes a record of every line.
func (j *jsonLines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(strings.TrimPrefix(line, "agrdist: ")); line != "" {
			sayJSON(j.log, slog.LevelInfo, line)
		}
	}
	return len(p), nil
}

// ended is the last word of a run that is not done.
func (j *jsonLines) ended(code int, text string) {
	level := slog.LevelError
	if code == exitSignal {
		level = slog.LevelInfo
	}
	sayJSON(j.log, level, text, "exit_code", code)
}

// How often progress is reported as JSON: the log of a long run stays readable, and a
// collector sees within a minute that training stands still.
const (
	jsonLeast = 10 * time.Second
	jsonMost  = time.Minute
	jsonPart  = 100 // or after 1 % of the steps
)

// report tells where the run stands. Rank 0's node speaks for the run, every node for
// itself while it is in none.
func (d *display) report(s cluster.Status, leads bool) {
	log := d.json.log
	if text := d.news(s); text != "" && (leads || s.State != cluster.StateRunning) {
		sayJSON(log, slog.LevelInfo, text, "state", string(s.State), "generation", s.Generation.Number)
	}
	passed := time.Since(d.line)
	due := passed >= jsonLeast && (s.Step-d.lineStep >= max(1, s.TotalSteps/jsonPart) || passed >= jsonMost)
	if !leads || s.Step <= d.lineStep || !due && s.Step != s.TotalSteps {
		return
	}
	d.line, d.lineStep = time.Now(), s.Step
	fields := []any{
		"step", s.Step, "steps", s.TotalSteps, "loss", s.Loss, "world", s.Generation.World(), "generation", s.Generation.Number,
	}
	if per := d.rate.perSecond; per > 0 {
		fields = append(fields, "images_per_s", per*float64(d.batch), "eta_s", int64(float64(s.TotalSteps-s.Step)/per))
	}
	log.Info("progress", fields...)
}

// finished is the last record of a run that is done.
func (j *jsonLines) finished(o launch.Outcome) {
	fields := []any{"step", o.Step, "steps", o.Steps, "digest", o.Digest, "dir", string(o.Dir), "seconds", o.Took.Round(time.Millisecond).Seconds()}
	if o.Loss != nil {
		fields = append(fields, "loss", *o.Loss)
	}
	if m := o.Mirror; m != nil {
		fields = append(fields, "mirror", m.Place, "mirrored", m.Err == nil)
	}
	msg := "finished"
	if o.Ending == launch.Already {
		msg = "already finished; raise train.steps to continue"
	}
	sayJSON(j.log, slog.LevelInfo, msg, fields...)
}

// pageNotice says where the page is. Logs are collected and kept: the token of the link
// stays out of them.
func pageNotice(w io.Writer, link string) {
	if _, ok := w.(*jsonLines); ok {
		if i := strings.IndexAny(link, "#?"); i >= 0 {
			link = link[:i] + " (agrdist dashboard token prints its token)"
		}
	}
	fmt.Fprintln(w, "agrdist: dashboard "+link)
}
