package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// history follows one run's events and answers questions on them. It is safe for
// concurrent use: many browsers share one reading of the file. Each event is read and
// summarised once and then forgotten, so that a page that is open on a long run costs no
// more than one on a short run, in time and in memory.
type history struct {
	mu      sync.Mutex
	reader  *metrics.Reader
	table   table
	summary summary
	tally   tally
	epoch   int // counts how often the file began again
	charts  map[int]chart
}

// glance is what the events say at a time.
type glance struct {
	View
	events   int // that count
	epoch    int
	lastStep time.Time // when the newest step event was written; zero: none
}

// chart is an encoded Series, and what it was made of.
type chart struct {
	events, epoch int
	json          []byte
}

func newHistory(dir string) *history {
	return &history{
		reader: metrics.OpenReader(filepath.Join(dir, "events.jsonl")), table: table{limit: maxRows}, tally: newTally(), charts: map[int]chart{},
	}
}

// look reads what is new and returns what the events say.
func (h *history) look(name string, now time.Time) (glance, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.read(); err != nil {
		return glance{}, err
	}
	return glance{View: h.summary.view(name, now), events: h.summary.events, epoch: h.epoch, lastStep: h.summary.lastStep}, nil
}

// chart reads what is new and returns the series of all, encoded. Browsers that ask for
// the same events share one encoding.
func (h *history) chart(points int) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.read(); err != nil {
		return nil, err
	}
	if c, ok := h.charts[points]; ok && c.events == h.summary.events && c.epoch == h.epoch {
		return c.json, nil
	}
	b, err := json.Marshal(h.table.series(points))
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	if len(h.charts) >= maxCharts {
		clear(h.charts)
	}
	h.charts[points] = chart{h.summary.events, h.epoch, b}
	return b, nil
}

// maxCharts bounds the encodings that are kept: the page asks for two.
const maxCharts = 4

// read takes what is new. The caller has h.mu.
func (h *history) read() error {
	for {
		b, err := h.reader.Read()
		if err != nil {
			return err
		}
		if b.Restarted {
			h.table, h.summary = table{limit: maxRows}, summary{}
			h.epoch++
		}
		for i := range b.Events {
			e := &b.Events[i]
			h.tally.add(e)
			if h.table.add(*e) {
				h.summary.rewind(&h.table)
			}
			h.summary.add(e)
		}
		if !b.More {
			return nil
		}
	}
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reader.Close()
}

// summary is a run's view from its files alone, as its events make it, one after
// another. The zero value is that of no events.
type summary struct {
	v          View
	events     int
	newest     time.Time // event
	lastStep   time.Time
	checkpoint time.Time
}

// add takes events in the order of the file.
func (s *summary) add(e *metrics.Event) {
	v := &s.v
	if s.events == 0 {
		*v = newView()
	}
	s.events++
	s.newest = e.When()
	v.Step = max(v.Step, e.Step)
	switch e.Event {
	case metrics.EventStart:
		v.TotalSteps, v.State, v.Digest = e.Steps, "running", ""
		v.Step = e.Step
	case metrics.EventGeneration:
		v.Generation, v.Reason, v.State = e.Generation, e.Reason, "running"
	case metrics.EventStep:
		v.Loss, v.GradNorm, v.LR, v.ImagesPerSecond = value(e.Loss), value(e.GradNorm), value(e.LR), e.ImagesPerSecond
		v.State = "running"
		s.lastStep = e.When()
		if m := measuredBy(*e); m != nil {
			v.Measured = m
		}
	case metrics.EventCheckpoint:
		v.Checkpoint, v.CheckpointStep = e.Path, e.Step
		s.checkpoint = e.When()
	case metrics.EventStop:
		v.State = "stopped"
	case metrics.EventFinish:
		v.State, v.Digest = "finished", e.ModelDigest
	}
}

// rewind takes back what the table has dropped, before the event that it was dropped for.
func (s *summary) rewind(t *table) {
	v := &s.v
	fresh := newView()
	v.Step, v.Checkpoint, v.CheckpointStep = fresh.Step, fresh.Checkpoint, fresh.CheckpointStep
	v.Loss, v.GradNorm, v.LR, v.ImagesPerSecond, s.lastStep = 0, 0, 0, 0, time.Time{}
	v.Generation, v.Reason, v.Measured, s.checkpoint = 0, "", nil, time.Time{}
	if n := len(t.rows); n > 0 {
		r := t.rows[n-1]
		v.Step, s.lastStep = r.step, r.time
		v.Loss, v.GradNorm, v.LR, v.ImagesPerSecond = r.column("loss"), r.column("grad_norm"), r.column("lr"), r.column("images_per_s")
	}
	for _, m := range t.marks {
		v.Step = max(v.Step, m.Step)
		switch m.Kind {
		case metrics.EventGeneration:
			v.Generation, v.Reason = m.generation, m.Text
		case metrics.EventCheckpoint:
			v.Checkpoint, v.CheckpointStep, s.checkpoint = m.Text, m.Step, m.when
		}
	}
	if n := len(t.measured); n > 0 {
		v.Measured = t.measured[n-1]
	}
}

func newView() View {
	return View{Health: Waiting, State: "new", Step: -1, RestartsLeft: -1, CheckpointStep: -1}
}

// view is the view of the run at a time.
func (s *summary) view(name string, now time.Time) View {
	if s.events == 0 {
		v := newView()
		v.Run = name
		return v
	}
	v := s.v
	v.Run = name
	v.Age = max(0, now.Sub(s.newest).Seconds())
	if v.CheckpointStep >= 0 {
		v.CheckpointAge = max(0, now.Sub(s.checkpoint).Seconds())
	}
	switch {
	case v.State == "stopped", v.State == "finished":
		v.Health, v.ImagesPerSecond = Over, 0
	case v.Age < stuckAfter.Seconds():
		v.Health = Healthy
	default:
		v.Health = Stuck
		v.Detail = fmt.Sprintf("no event for %s: the run was killed, or its directory is not the one it writes to", roundSeconds(v.Age))
	}
	return v
}

func value(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

// Find lists the directories of runs under dir: dir itself and what lies up to two
// levels below it, newest first.
func Find(dir string) ([]string, error) {
	if _, err := os.ReadDir(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("status: %s does not exist; give the directory that holds the runs (--out's parent, by default runs)", dir)
		}
		return nil, fmt.Errorf("status: %w", err)
	}
	type found struct {
		path string
		at   time.Time
	}
	var all []found
	for _, pattern := range []string{"events.jsonl", "*/events.jsonl", "*/*/events.jsonl"} {
		names, err := filepath.Glob(filepath.Join(escape(dir), pattern))
		if err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				all = append(all, found{filepath.Dir(name), info.ModTime()})
			}
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].at.Equal(all[j].at) {
			return all[i].path < all[j].path
		}
		return all[i].at.After(all[j].at)
	})
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = f.path
	}
	return out, nil
}

// escape makes a path that filepath.Glob takes literally.
func escape(dir string) string {
	var out []rune
	for _, r := range dir {
		switch r {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(out)
}
