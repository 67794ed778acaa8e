package status

import (
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
// concurrent use: many browsers share one reading of the file.
type history struct {
	mu     sync.Mutex
	reader *metrics.Reader
	series metrics.Series
	epoch  int // counts how often the file began again
}

func newHistory(dir string) *history {
	return &history{reader: metrics.OpenReader(filepath.Join(dir, "events.jsonl"))}
}

// refresh reads what is new. It returns the events that count and the epoch.
func (h *history) refresh() ([]metrics.Event, int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, err := h.reader.Read()
	if err != nil {
		return nil, 0, err
	}
	if b.Restarted {
		h.series.Reset()
		h.epoch++
	}
	h.series.Add(b.Events...)
	return h.series.Events(), h.epoch, nil
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reader.Close()
}

// FromEvents makes the view of a run from its files alone.
func FromEvents(name string, events []metrics.Event, now time.Time) View {
	v := View{Run: name, Health: Waiting, State: "new", Step: -1, RestartsLeft: -1, CheckpointStep: -1}
	for _, e := range events {
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
			if e.UpdateNorm != nil || e.LossLow != nil || e.LossMid != nil || e.LossHigh != nil {
				v.Measured = &Measured{
					Step: e.Step, LossLow: e.LossLow, LossMid: e.LossMid, LossHigh: e.LossHigh,
					UpdateNorm: e.UpdateNorm, ParamNorm: e.ParamNorm, EMADistance: e.EMADistance, AGR: e.AGR,
				}
			}
		case metrics.EventCheckpoint:
			v.Checkpoint, v.CheckpointStep = e.Path, e.Step
			v.CheckpointAge = max(0, now.Sub(e.When()).Seconds())
		case metrics.EventStop:
			v.State = "stopped"
		case metrics.EventFinish:
			v.State, v.Digest = "finished", e.ModelDigest
		}
	}
	if len(events) == 0 {
		return v
	}
	v.Age = max(0, now.Sub(events[len(events)-1].When()).Seconds())
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
