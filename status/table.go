package status

import (
	"slices"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// maxRows bounds the rows that a history keeps, some 400 bytes each: enough for every
// chart, and the same for a run of a thousand steps and of a million.
const maxRows = 4096

// maxMeasured bounds the measured steps that are remembered for when the newest are
// taken again.
const maxMeasured = 64

// table is the steps of a run as rows of equally many step events, and what happened
// beside. Its memory is bounded: when it has limit rows, each two neighbours become one.
// The zero value has no limit.
//
// Steps that are taken again replace their rows. A row of several events of which only
// some are taken again is dropped whole: a chart lacks a point there rather than show one
// that did not happen.
type table struct {
	limit    int
	per      int // events of a full row
	rows     []row
	marks    []Mark
	held     []point
	measured []*Measured // the newest
}

// row is the sum of some step events.
type row struct {
	first, step int64 // of its first and last event
	time        time.Time
	world       int
	events      int
	cells       []cell // by metrics.Columns
	// The smoothed loss after the row, and its weight.
	mean, weight float64
}

// smooth is the smoothed loss after the row; nil: there was none yet.
func (r row) smooth() *float64 {
	if r.weight == 0 {
		return nil
	}
	return metrics.Finite(r.mean / r.weight)
}

// column is the row's mean of a column; 0: it has none.
func (r row) column(name string) float64 {
	i := slices.IndexFunc(metrics.Columns, func(c metrics.Column) bool { return c.Name == name })
	return value(r.cells[i].value())
}

type cell struct {
	sum float64
	n   int
}

// value is the mean; nil: no event had a value.
func (c cell) value() *float64 {
	if c.n == 0 {
		return nil
	}
	return metrics.Finite(c.sum / float64(c.n))
}

type point struct {
	step  int64
	value *float64
}

// add takes events in the order of the file, and reports whether earlier ones were
// replaced.
func (t *table) add(e metrics.Event) (replaced bool) {
	switch e.Event {
	case metrics.EventStart:
		replaced = t.rewind(e)
	case metrics.EventStep:
		replaced = t.rewind(e)
		t.step(e)
	case metrics.EventEval:
		t.held = append(t.held, point{e.Step, e.HeldOutLoss})
	}
	if m, ok := mark(e); ok {
		t.marks = append(t.marks, m)
	}
	return replaced
}

// rewind drops what is told again from e on.
func (t *table) rewind(e metrics.Event) bool {
	before := len(t.rows) + len(t.marks) + len(t.held)
	n := len(t.rows)
	for n > 0 && metrics.Replaced(metrics.EventStep, t.rows[n-1].step, e) {
		n--
	}
	t.rows = t.rows[:n]
	// Nothing is moved where nothing is dropped, as with nearly every step.
	t.marks = slices.DeleteFunc(t.marks, func(m Mark) bool { return metrics.Replaced(m.Kind, m.Step, e) })
	t.held = slices.DeleteFunc(t.held, func(p point) bool { return metrics.Replaced(metrics.EventEval, p.step, e) })
	t.measured = slices.DeleteFunc(t.measured, func(m *Measured) bool { return metrics.Replaced(metrics.EventStep, m.Step, e) })
	return len(t.rows)+len(t.marks)+len(t.held) < before
}

func (t *table) step(e metrics.Event) {
	t.per = max(t.per, 1)
	n := len(t.rows)
	if n == 0 || t.rows[n-1].events >= t.per {
		if t.limit > 0 && n >= t.limit {
			t.halve()
			n = len(t.rows)
		}
		r := row{first: e.Step, cells: make([]cell, len(metrics.Columns))}
		if n > 0 {
			r.mean, r.weight = t.rows[n-1].mean, t.rows[n-1].weight
		}
		t.rows = append(t.rows, r)
	}
	r := &t.rows[len(t.rows)-1]
	r.step, r.time, r.world = e.Step, e.When(), e.WorldSize
	r.events++
	for i, c := range metrics.Columns {
		if v := c.Value(e); v != nil {
			r.cells[i].sum += *v
			r.cells[i].n++
		}
	}
	// The exponential mean of the losses, divided by the weight that it has collected
	// (as Adam corrects its moments), so that it begins at the first loss.
	if e.Loss != nil {
		r.mean = smoothing*r.mean + (1-smoothing)**e.Loss
		r.weight = smoothing*r.weight + (1 - smoothing)
	}
	if m := measuredBy(e); m != nil {
		if len(t.measured) >= maxMeasured {
			t.measured = slices.Delete(t.measured, 0, 1)
		}
		t.measured = append(t.measured, m)
	}
}

// halve makes one row of each two.
func (t *table) halve() {
	t.per *= 2
	half := t.rows[:0]
	for pair := range slices.Chunk(t.rows, 2) {
		half = append(half, merge(pair))
	}
	clear(t.rows[len(half):])
	t.rows = half
}

// merge is one row of neighbours.
func merge(rows []row) row {
	all := rows[len(rows)-1]
	all.first, all.events = rows[0].first, 0
	all.cells = make([]cell, len(rows[0].cells))
	for _, r := range rows {
		all.events += r.events
		for i, c := range r.cells {
			all.cells[i].sum += c.sum
			all.cells[i].n += c.n
		}
	}
	return all
}

// measuredBy is what a step that was measured says; nil for others.
func measuredBy(e metrics.Event) *Measured {
	if e.UpdateNorm == nil && e.LossLow == nil && e.LossMid == nil && e.LossHigh == nil {
		return nil
	}
	return &Measured{
		Step: e.Step, LossLow: e.LossLow, LossMid: e.LossMid, LossHigh: e.LossHigh,
		UpdateNorm: e.UpdateNorm, ParamNorm: e.ParamNorm, EMADistance: e.EMADistance, AGR: e.AGR,
	}
}
