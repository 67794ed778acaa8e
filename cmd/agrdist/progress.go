package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/agrdist/agrdist/cluster"
)

// display shows where a run stands: a bar on a terminal, now and then a line
// elsewhere. It also is the writer that other output goes through, so that lines
// and bar do not overwrite each other.
type display struct {
	out   io.Writer
	batch int // images a step
	begun time.Time
	plain time.Duration // between lines without a terminal
	json  *jsonLines    // nil: text for people

	mu       sync.Mutex
	progress *mpb.Progress
	bar      *mpb.Bar
	last     cluster.Status
	line     time.Time // when the last plain line was printed
	lineStep int64
	detail   string
	rate     rate
}

func newDisplay(out io.Writer, batch int) *display {
	d := &display{out: out, batch: batch, begun: time.Now(), plain: 5 * time.Second}
	d.json, _ = out.(*jsonLines)
	if drawable(out) {
		d.progress = mpb.New(mpb.WithOutput(out), mpb.WithWidth(32), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return d
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// drawable tells whether a bar can be drawn: on a terminal that moves its cursor and
// that says how wide it is. Terminals without a size (docker -t, a pod's tty, script)
// get plain lines.
func drawable(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0
}

// Write prints whole lines above the bar.
func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	bar := d.bar
	d.mu.Unlock()
	if bar != nil {
		return d.progress.Write(p)
	}
	return d.out.Write(p)
}

// update shows a status; leads: rank 0 is on this node.
func (d *display) update(s cluster.Status, leads bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json != nil {
		d.report(s, leads)
	} else {
		d.note(s)
	}
	d.last = s
	if s.Step >= 0 {
		d.rate.observe(s.Step, time.Now())
	}
	if d.json != nil {
		return
	}
	if d.progress != nil {
		d.draw(s)
		return
	}
	if s.Step > d.lineStep && (time.Since(d.line) >= d.plain || s.Step == s.TotalSteps) {
		d.line, d.lineStep = time.Now(), s.Step
		fmt.Fprintf(d.out, "step %d/%d  %s\n", s.Step, s.TotalSteps, d.numbers())
	}
}

// news is what the run waits for, or recovers from, when that changes.
func (d *display) news(s cluster.Status) (text string) {
	switch {
	case s.State == cluster.StateWaiting, s.State == cluster.StateRecovering,
		s.State == cluster.StateForming && time.Since(d.begun) >= d.plain:
		text = s.Detail
	case s.State == cluster.StateRunning && s.Generation.Number > 1 && s.Generation.Number != d.last.Generation.Number:
		text = fmt.Sprintf("generation %d, %s: %s", s.Generation.Number, plural(s.Generation.World(), "worker"), s.Generation.Reason)
	}
	if text == "" || text == d.detail {
		return ""
	}
	d.detail = text
	return text
}

// note prints the news.
func (d *display) note(s cluster.Status) {
	text := d.news(s)
	if text == "" {
		return
	}
	text = "agrdist: " + text + "\n"
	if d.bar != nil {
		_, _ = d.progress.Write([]byte(text)) // a lost line of display is no failure
		return
	}
	fmt.Fprint(d.out, text)
}

func (d *display) draw(s cluster.Status) {
	if d.bar == nil {
		if s.Step < 0 || s.TotalSteps <= 0 {
			return
		}
		d.bar = d.progress.AddBar(s.TotalSteps,
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return d.locked(d.head) })),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + d.locked(d.numbers) })),
		)
	}
	d.bar.SetCurrent(s.Step)
}

// locked is for the bar's own goroutine.
func (d *display) locked(f func() string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return f()
}

func (d *display) head() string { return fmt.Sprintf("step %d/%d ", d.last.Step, d.last.TotalSteps) }

// numbers is what stands behind the bar.
func (d *display) numbers() string {
	s := d.last
	var b strings.Builder
	fmt.Fprintf(&b, "loss %.4f  ", s.Loss)
	if perSecond := d.rate.perSecond; perSecond > 0 {
		fmt.Fprintf(&b, "%.0f images/s  ", perSecond*float64(d.batch))
		left := float64(s.TotalSteps-s.Step) / perSecond
		fmt.Fprintf(&b, "ETA %s  ", roundTime(time.Duration(left*float64(time.Second))))
	}
	fmt.Fprintf(&b, "world %d", s.Generation.World())
	switch phase := leaderPhase(s); phase {
	case cluster.PhaseSample, cluster.PhaseEval, cluster.PhaseCheckpoint:
		fmt.Fprintf(&b, "  %s", phase)
	}
	return b.String()
}

func leaderPhase(s cluster.Status) string {
	if len(s.Workers) == 0 {
		return ""
	}
	return s.Workers[0].Report.Phase
}

// close ends the bar where it stands.
func (d *display) close() {
	d.mu.Lock()
	bar := d.bar
	d.mu.Unlock()
	if bar == nil {
		return
	}
	if !bar.Completed() {
		bar.Abort(false)
	}
	d.progress.Wait()
	d.mu.Lock()
	d.bar = nil
	d.mu.Unlock()
}

// rate is steps a second over the last few seconds.
type rate struct {
	perSecond float64
	step      int64
	at        time.Time
}

func (r *rate) observe(step int64, now time.Time) {
	if r.at.IsZero() || step < r.step {
		r.step, r.at = step, now
		return
	}
	passed := now.Sub(r.at).Seconds()
	if passed < 1 || step == r.step {
		return
	}
	current := float64(step-r.step) / passed
	if r.perSecond == 0 {
		r.perSecond = current
	}
	r.perSecond += 0.3 * (current - r.perSecond)
	r.step, r.at = step, now
}

func roundTime(d time.Duration) time.Duration {
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > 10*time.Second:
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
