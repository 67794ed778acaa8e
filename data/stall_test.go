package data

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hanging waits for release at one image, and takes a while for each.
type hanging struct {
	counted
	at      int
	release chan struct{}
	pause   time.Duration
	reads   *atomic.Int64
}

func (h hanging) Read(dst []float32, index int) error {
	time.Sleep(h.pause)
	if index == h.at {
		<-h.release
	}
	h.reads.Add(1)
	return h.counted.Read(dst, index)
}

func (h hanging) ImageName(int) string { return "/mnt/nfs/caf\xe9.png" }

// A read that hangs ends the batch after the limit with the file's name, and
// writes nothing into the batch when it comes back late. A slow batch whose images
// come one after another does not stall, however long it takes.
func TestLoadStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := hanging{counted: 5, at: 3, release: make(chan struct{}), pause: 20 * time.Second, reads: &atomic.Int64{}}
		l := NewLoader(d, 1, false).WithStallLimit(30 * time.Second)
		var good, bad []int64
		for draw := range int64(5) {
			if _, index, _ := l.Sample(draw); index == d.at {
				bad = append(slices.Clip(good), draw)
			} else {
				good = append(good, draw)
			}
		}
		dst := make([]float32, len(good))
		began := time.Now()
		require.NoError(t, l.Load(dst, good))
		require.Equal(t, 80*time.Second, time.Since(began))
		for i, draw := range good {
			_, index, _ := l.Sample(draw)
			require.Equal(t, float32(index), dst[i])
		}

		dst = make([]float32, len(bad))
		err := l.Load(dst, bad)
		var stalled *StalledError
		require.ErrorAs(t, err, &stalled)
		require.ErrorContains(t, err, `"/mnt/nfs/caf\xe9.png": reading it has not come back for 30s; `)
		clear(dst)
		reads := d.reads.Load()
		close(d.release)
		synctest.Wait()
		require.Equal(t, reads+1, d.reads.Load())
		require.Equal(t, make([]float32, len(bad)), dst)
	})
}

// A batch ends with its context, and the error names the file.
func TestLoadContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := hanging{counted: 1, at: 0, release: make(chan struct{}), reads: &atomic.Int64{}}
		defer close(d.release)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		err := NewLoader(d, 1, false).LoadContext(ctx, make([]float32, 1), []int64{0})
		require.ErrorIs(t, err, cause)
		require.ErrorContains(t, err, `nfs/caf\xe9.png`)
	})
}

// The limit changes no image and no error.
func TestLoadWithLimitAgrees(t *testing.T) {
	d := openTest(t, DefaultConfig())
	plain := NewLoader(d, 42, true)
	limited := plain.WithStallLimit(time.Hour)
	draws := []int64{5, 1, 3000, 17}
	want, got := make([]float32, 4*64), make([]float32, 4*64)
	for range 3 { // buffers are used again
		require.NoError(t, plain.Load(want, draws))
		require.NoError(t, limited.Load(got, draws))
		require.Equal(t, want, got)
		draws = draws[:len(draws)-1]
		want, got = want[:len(draws)*64], got[:len(draws)*64]
	}
	require.NoError(t, limited.Load(nil, nil))
	bad := NewLoader(faulty{d, 1155}, 42, false).WithStallLimit(time.Hour)
	require.ErrorIs(t, bad.Load(make([]float32, 64), []int64{0}), errFault)
}
