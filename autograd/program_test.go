package autograd_test

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// stack is a small residual network: enough depth for memory to be shared.
func stack(depth int) opCase {
	c := tensor.Conv{Kernel: 3, Stride: 1, PadLo: 1, PadHi: 1}
	shapes := []tensor.Shape{tensor.Of(samples, 4, 4, 8)}
	for range depth {
		shapes = append(shapes, tensor.Of(8), tensor.Of(8), tensor.Of(3, 3, 8, 8), tensor.Of(8))
	}
	return opCase{"stack", shapes, func(t *autograd.Tape, p values, draws *autograd.Value) *autograd.Value {
		x, rest := p[0], p[1:]
		for range depth {
			h := t.GroupNormSiLU(x, rest[0], rest[1], 2, 1e-5, autograd.Dropout{P: 0.2, Stream: 9, Draws: draws})
			x = t.Conv2D(h, rest[2], rest[3], nil, x, c)
			rest = rest[4:]
		}
		return x
	}}
}

func newCPU(tb testing.TB, threads int) tensor.Backend {
	tb.Helper()
	be := cpu.New(cpu.Config{Threads: threads})
	tb.Cleanup(func() { require.NoError(tb, be.Close()) })
	return be
}

// Computing cheap values again changes no bit and needs less memory.
func TestRecomputeIsExact(t *testing.T) {
	be := newCPU(t, 1)
	c := stack(6)
	stored, again := compile(t, be, c, true), compile(t, be, c, false)
	stored.run(t)
	again.run(t)
	for i := range c.params {
		require.Equal(t, stored.host(t, stored.grads[i]), again.host(t, again.grads[i]))
	}
	more, _ := stored.prog.ArenaLen()
	less, floor := again.prog.ArenaLen()
	require.Less(t, float64(less), 0.7*float64(more))
	require.LessOrEqual(t, float64(less), 1.1*float64(floor))
}

// A parameter is ready as soon as its last gradient operation was called: at that
// moment its gradient is final on a backend that computes at once.
func TestReadyMeansFinal(t *testing.T) {
	b := compile(t, newCPU(t, 1), stack(4), false)
	at := make([][]float32, len(b.params))
	require.NoError(t, b.prog.Run(autograd.Step{Seed: 3, GradScale: 0.5, Ready: func(i int) {
		require.Nil(t, at[i], "twice")
		at[i] = b.host(t, b.grads[i])
	}}))
	for i := range at {
		require.Equal(t, b.host(t, b.grads[i]), at[i], "parameter %d", i)
	}
	want := indices(len(b.params))
	for i := range want {
		want[i] = len(want) - 1 - i
	}
	require.Equal(t, want, b.prog.ReadyOrder(), "the reverse of the order of use")
}

// poisoned remembers its buffers, to spoil them.
type poisoned struct {
	gradcheck.Fused
	buffers []tensor.Buffer
	freed   []tensor.Buffer
}

// Free fills the buffer with NaN, which must stay.
func (p *poisoned) Free(b tensor.Buffer) {
	p.Fused.Free(b)
	p.freed = append(p.freed, b)
}

func (p *poisoned) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	b, err := p.Fused.Alloc(dt, n)
	p.buffers = append(p.buffers, b)
	return b, err
}

// poison fills the buffers of a length with NaN.
func (p *poisoned) poison(n int) {
	for _, b := range p.buffers {
		if b.Len() == n {
			p.Fill(tensor.Tensor{Buf: b, Shape: tensor.Of(n)}, float32(math.NaN()))
		}
	}
}

// Programs take turns in one arena that grows under them, and whatever it held
// before, the results are the same: nothing is read before it is written.
func TestArenaIsShared(t *testing.T) {
	be := &poisoned{}
	alone := compile(t, gradcheck.Fused{}, stack(2), false)
	alone.run(t)
	arena := autograd.NewArena(be)
	small := compileIn(t, arena, be, stack(2), false)
	before := arena.Len()
	large := compileIn(t, arena, be, stack(5), false)
	require.Greater(t, arena.Len(), before)
	for range 2 {
		large.run(t)
		be.poison(arena.Len())
		small.run(t)
		for i := range small.grads {
			require.Equal(t, alone.host(t, alone.grads[i]), small.host(t, small.grads[i]))
		}
	}
	require.Len(t, be.freed, 1)
	arena.Free()
	small.run(t)
	require.Len(t, be.freed, 2)
	for _, b := range be.freed {
		for _, v := range gradcheck.Float64s(b) {
			require.True(t, math.IsNaN(v), "freed memory was used")
		}
	}
	require.Equal(t, alone.host(t, alone.grads[0]), small.host(t, small.grads[0]))
}

var errRoom = errors.New("no room")

// full refuses every allocation.
type full struct{ tensor.Backend }

func (full) Alloc(tensor.DType, int) (tensor.Buffer, error) { return nil, errRoom }

func TestCompileReportsNoRoom(t *testing.T) {
	be := gradcheck.Backend{}
	tape := autograd.NewTape(be, autograd.Config{})
	tape.SiLU(tape.Param(0, random(t, be, tensor.Of(3), 0), tensor.Tensor{}))
	_, err := tape.Compile(autograd.NewArena(full{be}))
	require.ErrorIs(t, err, errRoom)
}

// counting counts what a step asks of the device's memory.
type counting struct {
	tensor.Backend
	calls int
}

func (c *counting) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	c.calls++
	return c.Backend.Alloc(dt, n)
}

func (c *counting) Slice(b tensor.Buffer, off, n int) tensor.Buffer {
	c.calls++
	return c.Backend.Slice(b, off, n)
}

// In the steady state a step allocates nothing, on the Go heap or the device.
func TestRunDoesNotAllocate(t *testing.T) {
	be := &counting{Backend: newCPU(t, 1)}
	b := compile(t, be, stack(3), false)
	ready := 0
	step := autograd.Step{Seed: 3, GradScale: 0.5, Ready: func(int) { ready++ }}
	require.NoError(t, b.prog.Run(step))
	before := be.calls
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = b.prog.Run(step) }))
	require.Equal(t, before, be.calls)
	require.Positive(t, ready)
}

func TestMisuse(t *testing.T) {
	be := gradcheck.Backend{}
	value := func(dims ...int) *autograd.Value {
		tape := autograd.NewTape(be, autograd.Config{Train: true})
		return tape.Input(tensor.F32, tensor.Of(dims...))
	}
	tape := autograd.NewTape(be, autograd.Config{Train: true})
	for name, f := range map[string]func(){
		"add":        func() { tape.Add(value(2, 3), value(3, 2)) },
		"view":       func() { tape.View(value(2, 3), tensor.Of(5)) },
		"concat":     func() { tape.Concat(value(2, 3), value(3, 3)) },
		"split":      func() { tape.Split(value(2, 3), 3) },
		"matmul":     func() { tape.MatMul(value(2, 3), value(2, 3), false, false, 1) },
		"group norm": func() { tape.GroupNorm(value(2, 4, 6), value(6), value(6), 4, 1) },
		"conv": func() {
			tape.Conv2D(value(1, 4, 4, 2), value(3, 3, 3, 2), nil, nil, nil, tensor.Conv{Kernel: 3, Stride: 1})
		},
		"bias": func() {
			tape.Conv2D(value(1, 4, 4, 3), value(1, 1, 3, 2), value(3), nil, nil, tensor.Conv{Kernel: 1, Stride: 1})
		},
		"attention": func() { tape.Attention(value(1, 4, 6), value(1, 4, 6), value(1, 4, 6), 4, 1) },
		"mse":       func() { tape.MSE(value(2, 3), value(2, 4)) },
	} {
		require.Panics(t, f, name)
	}
}

func TestBindChecksShape(t *testing.T) {
	be := gradcheck.Backend{}
	tape := autograd.NewTape(be, autograd.Config{})
	x := tape.Input(tensor.F32, tensor.Of(2, 3))
	tape.Keep(tape.SiLU(x))
	p, err := tape.Compile(autograd.NewArena(be))
	require.NoError(t, err)
	require.Panics(t, func() { p.Bind(x, random(t, be, tensor.Of(3, 2), 0)) })
}
