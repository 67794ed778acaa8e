package metrics

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) []Event {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var out []Event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e Event
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

func TestConcurrentWritersKeepWholeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	var wg sync.WaitGroup
	for w := range 4 {
		l := New(path)
		wg.Go(func() {
			defer l.Close()
			for i := range 50 {
				_ = l.Write(Event{Event: EventStep, Step: int64(w*50 + i), Loss: Finite(0.5)})
			}
		})
	}
	wg.Wait()
	seen := map[int64]bool{}
	for _, e := range read(t, path) {
		require.Equal(t, 0.5, *e.Loss)
		require.NotEmpty(t, e.Time)
		seen[e.Step] = true
	}
	require.Len(t, seen, 200)
}

func TestCutLineIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"event":"start"}`+"\n"+`{"event":"st`), 0o600))
	l := New(path)
	require.NoError(t, l.Write(Event{Event: EventFinish, Step: 3}))
	require.NoError(t, l.Close())
	events := read(t, path)
	require.Len(t, events, 2)
	require.Equal(t, EventFinish, events[1].Event)
}

func TestNotFiniteIsLeftOut(t *testing.T) {
	require.Nil(t, Finite(math.NaN()))
	require.Nil(t, Finite(math.Inf(-1)))
	require.Equal(t, 2.0, *Finite(2))
	var none *Log
	require.NoError(t, none.Write(Event{Event: EventStep}))
	require.NoError(t, none.Close())
	require.NoError(t, New("/no/such/dir/events.jsonl").Close())
	require.ErrorContains(t, New("/no/such/dir/events.jsonl").Write(Event{}), "/no/such/dir/events.jsonl")
}
