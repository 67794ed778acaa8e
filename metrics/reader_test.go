package metrics

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func appendText(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func steps(events []Event) (out []int64) {
	for _, e := range events {
		out = append(out, e.Step)
	}
	return out
}

func TestReaderFollowsAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	r := OpenReader(path)
	b, err := r.Read()
	require.NoError(t, err, "a file that is not there yet has no events")
	require.Empty(t, b.Events)

	appendText(t, path, `{"event":"start","step":0}`+"\n"+`{"event":"step","st`)
	b, err = r.Read()
	require.NoError(t, err)
	require.Equal(t, []int64{0}, steps(b.Events))

	appendText(t, path, `ep":7}`+"\n")
	b, err = r.Read()
	require.NoError(t, err)
	require.Equal(t, []int64{7}, steps(b.Events), "the second half of a line completes the first")
	require.Zero(t, r.Skipped())
	require.NoError(t, r.Close())
}

// A crash cuts a line short; the next writer closes it. Every way of cutting the
// line costs that line alone.
func TestReaderSkipsTornLines(t *testing.T) {
	line := `{"event":"step","step":5,"loss":0.25}`
	for cut := 1; cut < len(line); cut++ {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		appendText(t, path, line+"\n"+line[:cut])
		l := New(path)
		require.NoError(t, l.Write(Event{Event: EventFinish, Step: 9}))
		require.NoError(t, l.Close())
		r := OpenReader(path)
		b, err := r.Read()
		require.NoError(t, err)
		require.Equal(t, []int64{5, 9}, steps(b.Events), "cut after %d bytes", cut)
		require.Equal(t, 1, r.Skipped())
		require.NoError(t, r.Close())
	}
}

func TestReaderSeesANewFile(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"renamed": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Rename(path, path+".old"))
		},
		"truncated": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Truncate(path, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.jsonl")
			appendText(t, path, `{"event":"step","step":1}`+"\n"+`{"event":"step","step":2}`+"\n")
			r := OpenReader(path)
			b, err := r.Read()
			require.NoError(t, err)
			require.False(t, b.Restarted)
			require.Len(t, b.Events, 2)
			replace(t, path)
			appendText(t, path, `{"event":"start","step":0}`+"\n")
			b, err = r.Read()
			require.NoError(t, err)
			require.True(t, b.Restarted)
			require.Equal(t, []int64{0}, steps(b.Events))
			require.NoError(t, r.Close())
		})
	}
}

func TestSeriesKeepsWhatCounts(t *testing.T) {
	var s Series
	for _, e := range []Event{
		{Event: EventStart, Step: 0},
		{Event: EventStep, Step: 1},
		{Event: EventStep, Step: 2},
		{Event: EventCheckpoint, Step: 2},
		{Event: EventStep, Step: 3},
		{Event: EventStep, Step: 4},
		{Event: EventStart, Step: 2}, // the power came back: steps 3 and 4 are taken again
		{Event: EventStep, Step: 3},
		{Event: EventStep, Step: 4},
		{Event: EventStep, Step: 5},
		// Rank 0 died before it told of step 6, and its successor tells 5 again.
		{Event: EventStep, Step: 5},
		{Event: EventStep, Step: 6},
		{Event: EventFinish, Step: 6},
	} {
		s.Add(e)
	}
	require.Equal(t, []int64{0, 1, 2, 2, 2, 3, 4, 5, 6, 6}, steps(s.Events()))
}

func TestFanReachesAllSinks(t *testing.T) {
	dir := t.TempDir()
	good := New(filepath.Join(dir, "events.jsonl"))
	bad := New(filepath.Join(dir, "missing", "events.jsonl"))
	f := Fan{bad, good}
	require.Error(t, f.Write(Event{Event: EventStep, Step: 1}), "the sink that failed is told of")
	require.NoError(t, f.Close())
	events, err := History(filepath.Join(dir, "events.jsonl"))
	require.NoError(t, err)
	require.Equal(t, []int64{1}, steps(events))
	require.WithinDuration(t, time.Now(), events[0].When(), time.Minute)
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"event":"step","step":3}`+"\n"), 4)
	f.Add([]byte("\n\n{\n"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		whole := OpenReader("")
		var want Batch
		whole.parse(data, &want)
		// Read in two parts, the result is the same.
		cut = min(max(cut, 0), len(data))
		halves := OpenReader("")
		var got Batch
		halves.parse(data[:cut], &got)
		halves.parse(data[cut:], &got)
		require.Equal(t, want, got)
		require.Equal(t, whole.Skipped(), halves.Skipped())
	})
}

// A long file is read in parts; what comes of it is the same.
func TestReaderInParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	var want []int64
	for i := range int64(20) {
		want = append(want, i)
		appendText(t, path, fmt.Sprintf(`{"event":"step","step":%d}`, i)+"\n")
	}
	for atOnce := range int64(60) {
		r := OpenReader(path)
		r.atOnce = atOnce + 1
		var got []int64
		for {
			b, err := r.Read()
			require.NoError(t, err)
			got = append(got, steps(b.Events)...)
			if !b.More {
				break
			}
		}
		require.Equal(t, want, got, "%d bytes at once", atOnce+1)
		require.NoError(t, r.Close())
	}
}
