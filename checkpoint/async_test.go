package checkpoint

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/vfs/vfstest"
)

func scramble(s *Snapshot) {
	for _, list := range [][]Tensor{s.Model, s.EMA, s.Optimizer} {
		for _, x := range list {
			for j := range x.Data {
				x.Data[j] = -1e9
			}
		}
	}
}

// Training goes on while a save is held up in the middle; the next save waits
// for it and no two are ever in flight.
func TestSaveAsyncOverlapsTraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var inFlight, most atomic.Int32
		h := &vfstest.Hooked{FS: vfstest.NewMem(), Hook: func(c vfstest.Call) error {
			if c.Op == "mkdir" {
				most.Store(max(most.Load(), inFlight.Add(1)))
				<-gate
			}
			return nil
		}}
		opts := testOptions(0)
		var saved []int64
		opts.OnSaved = func(info Info, err error) {
			require.NoError(t, err)
			saved = append(saved, info.Step)
			inFlight.Add(-1)
		}
		s := open(h, memDir, opts)
		live := state(1)
		require.NoError(t, s.SaveAsync(t.Context(), live))
		scramble(live) // the next step overwrites the live tensors
		synctest.Wait()
		require.Equal(t, int32(1), inFlight.Load())

		// A second save waits no longer than its context.
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- s.SaveAsync(ctx, state(2)) }()
		synctest.Wait()
		impatient := errors.New("impatient")
		cancel(impatient)
		require.ErrorIs(t, <-done, impatient)

		go func() { done <- s.SaveAsync(context.Background(), state(3)) }()
		synctest.Wait()
		require.Empty(t, saved)
		gate <- struct{}{}
		require.NoError(t, <-done)
		require.Equal(t, []int64{1}, saved)
		gate <- struct{}{}
		require.NoError(t, s.Wait(t.Context()))
		require.Equal(t, []int64{1, 3}, saved)
		require.Equal(t, int32(1), most.Load())
		requireNewest(t, s, 3)
		require.NoError(t, s.Close())
		require.Equal(t, []int64{3, 1}, steps(t, s), "reading goes on after Close")
		require.NoError(t, s.Close())
		require.ErrorIs(t, s.SaveAsync(t.Context(), state(4)), ErrClosed)
		_, err := s.Save(t.Context(), state(4))
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, s.Wait(t.Context()), ErrClosed)
	})
}

// A failed background save is told once, at the next call, and that call's own
// save has begun all the same.
func TestBackgroundErrorsSurface(t *testing.T) {
	var full atomic.Bool
	mem := vfstest.NewMem()
	h := &vfstest.Hooked{FS: mem, Hook: func(c vfstest.Call) error {
		if full.Load() && c.Op == "write" {
			return &fs.PathError{Op: "write", Path: c.Path, Err: syscall.ENOSPC}
		}
		return nil
	}}
	opts := testOptions(1)
	var failures atomic.Int32
	opts.OnSaved = func(info Info, err error) {
		if err != nil {
			failures.Add(1)
			if info.Step != 2 && info.Step != 5 {
				panic("the step of a failed save")
			}
		}
	}
	s := open(h, memDir, opts)
	require.NoError(t, s.SaveAsync(t.Context(), state(1)))
	require.NoError(t, s.Wait(t.Context()))
	full.Store(true)
	require.NoError(t, s.SaveAsync(t.Context(), state(2)))
	waitIdle(s)
	full.Store(false)
	err := s.SaveAsync(t.Context(), state(3))
	require.ErrorIs(t, err, syscall.ENOSPC)
	oneLine(t, err)
	var se *SaveError
	require.ErrorAs(t, err, &se)
	require.Equal(t, int64(2), se.Step)
	require.Equal(t, int64(1), se.Intact)
	require.NoError(t, s.Wait(t.Context()), "told once")
	requireNewest(t, s, 3)

	// A bad snapshot is the caller's error, at once, and hides nothing.
	full.Store(true)
	require.NoError(t, s.SaveAsync(t.Context(), state(5)))
	bad := state(6)
	bad.EMA = nil
	err = s.SaveAsync(t.Context(), bad)
	require.ErrorIs(t, err, ErrNoEMA)
	require.NotErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, s.Close(), syscall.ENOSPC)
	require.Equal(t, int32(2), failures.Load())
	requireNewest(t, s, 3)
}

// waitIdle waits for the save in flight without collecting its error.
func waitIdle(s *Store) {
	s.slot <- struct{}{}
	<-s.slot
}

// The caller's context ends with the step; the save does not.
func TestBackgroundSaveOutlivesTheContext(t *testing.T) {
	s := open(vfstest.NewMem(), memDir, testOptions(0))
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.SaveAsync(ctx, state(1)))
	cancel()
	require.NoError(t, s.Close())
	requireNewest(t, s, 1)
}

func TestSaveAsyncFuncConvertsIntoTheStaging(t *testing.T) {
	s := open(vfstest.NewMem(), memDir, testOptions(0))
	var first *float32
	for step := range int64(3) {
		want := state(step)
		require.NoError(t, s.SaveAsyncFunc(t.Context(), func(g *Staging) (*Snapshot, error) {
			c := *want
			c.Model = make([]Tensor, len(want.Model))
			for i, x := range want.Model {
				buf := g.Buffer(x.Name, len(x.Data))
				copy(buf, x.Data)
				c.Model[i] = Tensor{Name: x.Name, Shape: x.Shape, Data: buf}
			}
			if first == nil {
				first = &c.Model[0].Data[0]
			}
			require.Same(t, first, &c.Model[0].Data[0])
			return &c, nil
		}))
	}
	boom := errors.New("the device is gone")
	require.ErrorIs(t, s.SaveAsyncFunc(t.Context(), func(*Staging) (*Snapshot, error) { return nil, boom }), boom)
	require.NoError(t, s.Close())
	requireNewest(t, s, 2)
	require.Equal(t, []int64{2, 1, 0}, steps(t, s))
}

// SaveAsync is SaveAsyncFunc of a copy.
func (s *Store) SaveAsync(ctx context.Context, snap *Snapshot) error {
	return s.SaveAsyncFunc(ctx, func(g *Staging) (*Snapshot, error) { return g.Copy(snap), nil })
}
