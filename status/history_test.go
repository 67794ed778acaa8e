package status

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// fromEvents makes the view of all events at once.
func fromEvents(name string, events []metrics.Event, now time.Time) View {
	var s summary
	for i := range events {
		s.add(&events[i])
	}
	return s.view(name, now)
}

// appendEvents writes events to a file as a run does.
func appendEvents(t *testing.T, path string, events ...metrics.Event) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	for _, e := range events {
		b, err := json.Marshal(e)
		require.NoError(t, err)
		_, err = f.Write(append(b, '\n'))
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// randomEvents is a stretch of a run's events from a step on. Now and then it goes back,
// as a run does that resumes from a checkpoint.
func randomEvents(r *rand.Rand, step *int64, clock *time.Time) []metrics.Event {
	var out []metrics.Event
	for range 1 + r.IntN(6) {
		*clock = clock.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
		e := metrics.Event{Time: clock.UTC().Format("2006-01-02T15:04:05.000Z07:00")}
		switch k := r.IntN(20); {
		case k < 12:
			*step++
			e.Event, e.Loss, e.StepMillis, e.ImagesPerSecond = metrics.EventStep, metrics.Finite(r.Float64()), 10, r.Float64()
			if k < 3 {
				e.UpdateNorm, e.AGR = metrics.Finite(r.Float64()), metrics.Finite(r.Float64())
			}
		case k < 13:
			e.Event = metrics.EventSkip
		case k < 15:
			e.Event, e.Path = metrics.EventCheckpoint, "step"
		case k < 16:
			e.Event, e.Generation, e.Reason = metrics.EventGeneration, r.Uint64N(9), "joined"
		case k < 17:
			*step = max(0, *step-r.Int64N(8))
			e.Event, e.Steps = metrics.EventStart, 1000
		case k < 18:
			*step = max(0, *step-r.Int64N(3)) // taken again without a start, as after a new generation
			continue
		case k < 19:
			e.Event = metrics.EventStop
		default:
			e.Event, e.ModelDigest = metrics.EventFinish, "abc"
		}
		e.Step = *step
		out = append(out, e)
	}
	return out
}

// A history that is read in pieces says at any time what one says that reads the whole
// file at once.
func TestHistoryInPiecesIsThatOfTheWhole(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		path := filepath.Join(dir, "events.jsonl")
		h := newHistory(dir)
		var all metrics.Series
		written, step, clock := 0, int64(0), time.Unix(1_700_000_000, 0)
		for piece := range 30 {
			if piece == 20 && seed%4 == 0 { // moved aside and begun again
				require.NoError(t, os.Rename(path, path+".old"))
				all.Reset()
				written, step = 0, 0
			}
			events := randomEvents(r, &step, &clock)
			appendEvents(t, path, events...)
			all.Add(events...)
			written += len(events)
			now := clock.Add(time.Second)
			g, err := h.look("r", now)
			require.NoError(t, err)
			require.Equal(t, fromEvents("r", all.Events(), now), g.View, "seed %d, piece %d", seed, piece)
			require.Equal(t, written, g.events, "every event is read once")
			got, err := h.chart(7)
			require.NoError(t, err)
			want, err := json.Marshal(newSeries(all.Events(), 7))
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got), "seed %d, piece %d", seed, piece)
		}
		require.NoError(t, h.close())
	}
}

// Browsers that ask for the same events share one encoding.
func TestHistoryEncodesOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	appendEvents(t, path, metrics.Event{Event: metrics.EventStart, Steps: 9}, metrics.Event{Event: metrics.EventCheckpoint, Step: 1, Path: "one"})
	h := newHistory(dir)
	defer func() { require.NoError(t, h.close()) }()
	first, err := h.chart(5)
	require.NoError(t, err)
	again, err := h.chart(5)
	require.NoError(t, err)
	require.Same(t, &first[0], &again[0])
	appendEvents(t, path, metrics.Event{Event: metrics.EventStep, Step: 2, Loss: metrics.Finite(0.5)})
	second, err := h.chart(5)
	require.NoError(t, err)
	require.NotEqual(t, string(first), string(second))
	g, err := h.look("r", time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 2, g.Step)
	require.EqualValues(t, 9, g.TotalSteps)
	require.Equal(t, "one", g.Checkpoint)
	require.InDelta(t, 0.5, g.Loss, 0)
	require.Equal(t, 3, g.events)
}

// A run of any length has a bounded number of rows, and their means are those of the steps.
func TestTableOfALongRun(t *testing.T) {
	const steps, limit = 10_000, 16
	short := table{limit: limit}
	var whole table
	loss := func(step int64) float64 { return 1 / float64(step) }
	feed := func(e metrics.Event) {
		short.add(e)
		whole.add(e)
	}
	for i := int64(1); i <= steps; i++ {
		e := metrics.Event{Event: metrics.EventStep, Step: i, Loss: metrics.Finite(loss(i)), WorldSize: 3}
		if i%10 == 0 { // only some steps have it
			e.UpdateNorm = metrics.Finite(2)
		}
		feed(e)
		require.LessOrEqual(t, len(short.rows), limit)
		require.LessOrEqual(t, cap(short.rows), 2*limit)
	}
	require.Len(t, whole.rows, steps)
	s := short.series(0)
	first := int64(1)
	for i, r := range short.rows {
		require.Equal(t, first, r.first, "rows follow one another")
		sum := 0.0
		for step := first; step <= r.step; step++ {
			sum += loss(step)
		}
		require.InEpsilon(t, sum/float64(r.step-first+1), *s.Columns["loss"][i], 1e-12)
		require.InDelta(t, 2, *s.Columns["update_norm"][i], 0)
		first = r.step + 1
	}
	require.EqualValues(t, steps+1, first)
	require.InDelta(t, *whole.rows[steps-1].smooth(), *s.Smooth[len(s.Smooth)-1], 0, "the smoothed loss is of every step")
	require.LessOrEqual(t, len(short.measured), maxMeasured)

	// The run resumes within a row: that row is gone, and the steps after it as well.
	within := short.rows[5].first + 1
	require.True(t, short.add(metrics.Event{Event: metrics.EventStart, Step: within}))
	require.Len(t, short.rows, 5)
	require.False(t, short.add(metrics.Event{Event: metrics.EventStep, Step: within + 1}))
	require.Equal(t, within+1, short.rows[5].first)
}

// A file that is longer than what is read at once is read whole.
func TestHistoryOfALongFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	var all []metrics.Event
	for i := range int64(8000) { // some 600 bytes each
		all = append(all, metrics.Event{Event: metrics.EventStep, Step: i + 1, StepMillis: 10, Reason: strings.Repeat("x", 500)})
	}
	appendEvents(t, path, all...)
	h := newHistory(dir)
	defer func() { require.NoError(t, h.close()) }()
	g, err := h.look("r", time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 8000, g.Step)
	require.Equal(t, 8000, g.events)
	require.LessOrEqual(t, len(h.table.rows), maxRows)
	read, err := metrics.History(path)
	require.NoError(t, err)
	require.Equal(t, all[7999].Step, read[len(read)-1].Step)
	require.Len(t, read, 8000)
}

// Steps that are taken again are steps: a counter has them all, and does not go down.
func TestMetricsCountStepsThatAreTakenAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	step := func(n int64) metrics.Event {
		return metrics.Event{Event: metrics.EventStep, Step: n, StepMillis: 10}
	}
	appendEvents(t, path, step(1), step(2), step(3))
	r := NewRun("r", dir)
	defer func() { require.NoError(t, r.history.close()) }()
	_, err := r.View(t.Context()) // read before anybody scrapes
	require.NoError(t, err)
	handler := Metrics(r)
	scrape := func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		for line := range strings.Lines(w.Body.String()) {
			if rest, ok := strings.CutPrefix(line, "agrdist_step_duration_seconds_count "); ok {
				return strings.TrimSpace(rest)
			}
		}
		return ""
	}
	require.Equal(t, "3", scrape())
	appendEvents(t, path, metrics.Event{Event: metrics.EventStart, Step: 1}, step(2), step(3), step(4))
	require.Equal(t, "6", scrape())
}
