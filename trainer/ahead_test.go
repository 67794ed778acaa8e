package trainer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// numbers is a Loader whose images are their draws. It fails at chosen draws and, where
// hang is set, waits for the end of its context at others.
type numbers struct {
	fail, hang func(draw int64) bool

	mu     sync.Mutex
	loaded []int64 // first draws, in the order of the calls
}

var errFile = errors.New("cannot read the file")

func (n *numbers) LoadContext(ctx context.Context, dst []float32, draws []int64) error {
	n.mu.Lock()
	n.loaded = append(n.loaded, draws[0])
	n.mu.Unlock()
	for i, d := range draws {
		if n.hang != nil && n.hang(d) {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if n.fail != nil && n.fail(d) {
			return errFile
		}
		dst[i] = float32(d)
	}
	return nil
}

func (n *numbers) calls() []int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]int64(nil), n.loaded...)
}

func TestAheadLoadsTheNextChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &numbers{}
		a := newAhead(l, 2, 1)
		take := func(first, next int64) {
			t.Helper()
			images, err := a.take(t.Context(), first, next)
			require.NoError(t, err)
			synctest.Wait() // the next load has ended, and has not written to what is in use
			require.Equal(t, []float32{float32(first), float32(first + 1)}, images)
		}
		take(0, 2)
		require.Equal(t, []int64{0, 2}, l.calls(), "2 is loaded while 0 is computed")
		take(2, 4)
		take(8, 10) // another block: what was loaded is dropped
		take(10, -1)
		require.Equal(t, []int64{0, 2, 4, 8, 10}, l.calls())
		take(12, 14)
		a.drop()
		a.drop()
	})
}

// An error shows where the chunk is needed, and the load can be tried again.
func TestAheadFails(t *testing.T) {
	l := &numbers{fail: func(d int64) bool { return d == 3 }}
	a := newAhead(l, 2, 1)
	defer a.drop()
	_, err := a.take(t.Context(), 0, 2)
	require.NoError(t, err)
	_, err = a.take(t.Context(), 2, 4)
	require.ErrorIs(t, err, errFile)
	l.fail = nil
	_, err = a.take(t.Context(), 2, 4)
	require.NoError(t, err)
}

// Who waits for a file that hangs is freed by the end of its generation, and the end of
// the run ends the load.
func TestAheadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead(&numbers{hang: func(d int64) bool { return d == 2 }}, 2, 1)
		_, err := a.take(t.Context(), 0, 2)
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		go cancel(errSuperseded)
		_, err = a.take(ctx, 2, 4)
		require.ErrorIs(t, err, errSuperseded)
		a.drop()
	})
}
