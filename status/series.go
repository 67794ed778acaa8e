package status

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// Series is the history of a run as columns of equal length, for charts. A missing
// value is null in JSON.
type Series struct {
	Step      []int64    // of each row
	Time      []float64  // unix seconds
	Smooth    []*float64 // loss, exponential mean, bias-corrected
	WorldSize []*float64
	HeldOut   []*float64 // loss on held-out images, in the row that the step it was measured at falls in
	Marks     []Mark
	// Columns are those of metrics.Columns, by name.
	Columns map[string][]*float64
}

// MarshalJSON implements json.Marshaler: one object with all columns by name.
func (s Series) MarshalJSON() ([]byte, error) {
	all := map[string]any{
		"step": s.Step, "time": s.Time, "loss_smooth": s.Smooth, "world_size": s.WorldSize, "heldout_loss": s.HeldOut, "marks": s.Marks,
	}
	for name, c := range s.Columns {
		all[name] = c
	}
	return json.Marshal(all) //nolint:wrapcheck // json's own interface
}

// Mark is something that happened at a step.
type Mark struct {
	Kind string  `json:"kind"` // start, generation, skip, checkpoint, sample, stop, finish
	Step int64   `json:"step"`
	Time float64 `json:"time"`
	Text string  `json:"text,omitempty"`

	generation uint64
	when       time.Time
}

// smoothing is the weight of the past in the smoothed loss, per step event.
const smoothing = 0.95

// newSeries makes columns of at most points rows, 0: of all, from events in the order
// of the file: neighbouring step events are averaged, and the smoothed loss is computed
// before that.
func newSeries(events []metrics.Event, points int) Series {
	var t table
	for i := range events {
		t.add(events[i])
	}
	return t.series(points)
}

// series makes columns of at most points rows, 0: of all.
func (t *table) series(points int) Series {
	s := Series{Marks: append([]Mark{}, t.marks...), Columns: map[string][]*float64{}}
	group := 1
	if points > 0 {
		group = max(1, (len(t.rows)+points-1)/points)
	}
	held := t.held
	for rows := range slices.Chunk(t.rows, group) {
		r := merge(rows)
		s.Step = append(s.Step, r.step)
		s.Time = append(s.Time, unix(r.time))
		s.Smooth = append(s.Smooth, r.smooth())
		s.WorldSize = append(s.WorldSize, positive(float64(r.world)))
		for i, c := range metrics.Columns {
			s.Columns[c.Name] = append(s.Columns[c.Name], r.cells[i].value())
		}
		var loss *float64
		for len(held) > 0 && held[0].step <= r.step {
			loss, held = held[0].value, held[1:]
		}
		s.HeldOut = append(s.HeldOut, loss)
	}
	return s
}

func mark(e metrics.Event) (Mark, bool) {
	m := Mark{Kind: e.Event, Step: e.Step, Time: unix(e.When()), generation: e.Generation, when: e.When()}
	switch e.Event {
	case metrics.EventStart:
		m.Text = "start"
		if e.ResumedAt != nil {
			m.Text = "resumed"
		}
	case metrics.EventGeneration:
		m.Text = e.Reason
	case metrics.EventCheckpoint, metrics.EventSample:
		m.Text = e.Path
	case metrics.EventSkip, metrics.EventStop:
	case metrics.EventFinish:
		m.Text = e.ModelDigest
	default:
		return Mark{}, false
	}
	return m, true
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func positive(x float64) *float64 {
	if x <= 0 || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
