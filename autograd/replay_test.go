package autograd_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// replaying is a Replayer as careless as the contract allows: Record runs the
// operations three times over, and a replay is a run of the same calls.
type replaying struct {
	tensor.Backend
	records, replays int
	err              error
}

func (r *replaying) Record(f func() error) (func() error, error) {
	r.records++
	for range 3 {
		if err := errors.Join(f(), r.err); err != nil {
			return nil, err
		}
	}
	return func() error { r.replays++; return f() }, nil
}

// replayed runs one step through run and returns all gradients and the order in which
// they were ready.
func (b *bench) replayed(t *testing.T, run func(autograd.Step) error, seed uint64) (grads [][]float32, order []int) {
	t.Helper()
	require.NoError(t, run(autograd.Step{Seed: seed, GradScale: 0.5, Ready: func(i int) { order = append(order, i) }}))
	for _, g := range b.grads {
		grads = append(grads, b.host(t, g))
	}
	return grads, order
}

// A replayed program gives the bits of Run, for every step that it is called with,
// and records only what is called twice in a row.
func TestReplayEqualsRun(t *testing.T) {
	be := &replaying{Backend: newCPU(t, 1)}
	plain, b := compile(t, newCPU(t, 1), stack(3), false), compile(t, be, stack(3), false)
	for _, step := range []struct {
		seed             uint64
		records, replays int
	}{
		{3, 0, 0}, // runs
		{3, 1, 1}, // is recorded, then replayed
		{3, 1, 2},
		{4, 1, 2}, // other dropout: runs
		{3, 1, 3}, // the recording is still good
		{5, 1, 3},
		{5, 2, 4},
		{3, 2, 4},
	} {
		want, wantOrder := plain.replayed(t, plain.prog.Run, step.seed)
		got, order := b.replayed(t, b.prog.Replay, step.seed)
		require.Equal(t, want, got)
		require.Equal(t, wantOrder, order)
		require.Equal(t, []int{step.records, step.replays}, []int{be.records, be.replays}, "seed %d", step.seed)
	}
}

// A recording is dropped when the arena moves, and not used for other inputs.
func TestReplayFollowsTheArena(t *testing.T) {
	be := &replaying{Backend: newCPU(t, 1)}
	arena := autograd.NewArena(be)
	b := compileIn(t, arena, be, stack(2), false)
	for range 3 {
		b.replayed(t, b.prog.Replay, 3)
	}
	require.Equal(t, []int{1, 2}, []int{be.records, be.replays})
	compileIn(t, arena, be, stack(5), false) // the arena grows
	want, _ := b.replayed(t, b.prog.Run, 3)
	for range 3 {
		got, _ := b.replayed(t, b.prog.Replay, 3)
		require.Equal(t, want, got)
	}
	require.Equal(t, []int{2, 4}, []int{be.records, be.replays})
}

// Gradients become ready in segments: where many elements are, one after another.
func TestReplayIsCutWhereGradientsAreReady(t *testing.T) {
	const wide = 1200 // a matrix of 1.4 million elements: more than a segment's
	be := &replaying{Backend: newCPU(t, 1)}
	matrix := tensor.Of(wide, wide)
	net := func(t *autograd.Tape, p values, _ *autograd.Value) *autograd.Value {
		return t.MatMul(t.MatMul(p[0], p[1], false, false, 1), p[2], false, false, 1)
	}
	b := compile(t, be, opCase{"wide", []tensor.Shape{tensor.Of(1, wide), matrix, matrix}, net}, false)
	for i := range 3 {
		var ready, launched []int
		require.NoError(t, b.prog.Replay(autograd.Step{GradScale: 1, Ready: func(i int) {
			ready, launched = append(ready, i), append(launched, be.replays)
		}}))
		require.Equal(t, b.prog.ReadyOrder(), ready)
		if i > 0 {
			require.Equal(t, []int{1, 2, 3}, launched, "each gradient is told of before the next is computed")
		}
		// Where nobody waits for gradients, the program is one piece.
		cut := be.replays
		require.NoError(t, b.prog.Replay(autograd.Step{GradScale: 1}))
		if i > 0 {
			require.Equal(t, cut+1, be.replays)
			require.Equal(t, 4, be.records)
		}
		be.replays = 0
	}
}

func TestReplayReportsFailures(t *testing.T) {
	be := &replaying{Backend: newCPU(t, 1), err: errRoom}
	b := compile(t, be, stack(2), false)
	b.replayed(t, b.prog.Replay, 3)
	require.ErrorIs(t, b.prog.Replay(autograd.Step{Seed: 3, GradScale: 0.5, Ready: func(int) {}}), errRoom)
}
