package status

import (
	"encoding/json"
	"math"

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
}

// smoothing is the weight of the past in the smoothed loss, per step event.
const smoothing = 0.95

// NewSeries makes columns of at most points rows: neighbouring step events are
// averaged, and the smoothed loss is computed before that.
func NewSeries(events []metrics.Event, points int) Series {
	var steps []metrics.Event
	var evals []metrics.Event
	s := Series{Marks: []Mark{}, Columns: map[string][]*float64{}}
	for _, e := range events {
		if e.Event == metrics.EventStep {
			steps = append(steps, e)
			continue
		}
		if e.Event == metrics.EventEval {
			evals = append(evals, e)
		}
		if m, ok := mark(e); ok {
			s.Marks = append(s.Marks, m)
		}
	}
	smooth := smoothed(steps)
	stride := 1
	if points > 0 {
		stride = max(1, (len(steps)+points-1)/points)
	}
	for lo := 0; lo < len(steps); lo += stride {
		hi := min(lo+stride, len(steps))
		last := steps[hi-1]
		s.Step = append(s.Step, last.Step)
		s.Time = append(s.Time, unix(last))
		mean := func(f func(e metrics.Event) *float64) *float64 {
			sum, n := 0.0, 0
			for _, e := range steps[lo:hi] {
				if v := f(e); v != nil {
					sum += *v
					n++
				}
			}
			if n == 0 {
				return nil
			}
			return metrics.Finite(sum / float64(n))
		}
		s.Smooth = append(s.Smooth, smooth[hi-1])
		for _, c := range metrics.Columns {
			s.Columns[c.Name] = append(s.Columns[c.Name], mean(c.Value))
		}
		var held *float64
		for len(evals) > 0 && evals[0].Step <= last.Step {
			held, evals = evals[0].HeldOutLoss, evals[1:]
		}
		s.HeldOut = append(s.HeldOut, held)
		s.WorldSize = append(s.WorldSize, positive(float64(last.WorldSize)))
	}
	return s
}

// smoothed is the exponential mean of the losses, divided by the weight that it has
// collected (as Adam corrects its moments), so that it begins at the first loss.
func smoothed(steps []metrics.Event) []*float64 {
	out := make([]*float64, len(steps))
	mean, weight := 0.0, 0.0
	for i, e := range steps {
		if e.Loss != nil {
			mean = smoothing*mean + (1-smoothing)**e.Loss
			weight = smoothing*weight + (1 - smoothing)
		}
		if weight > 0 {
			out[i] = metrics.Finite(mean / weight)
		}
	}
	return out
}

func mark(e metrics.Event) (Mark, bool) {
	m := Mark{Kind: e.Event, Step: e.Step, Time: unix(e)}
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

func unix(e metrics.Event) float64 {
	t := e.When()
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
