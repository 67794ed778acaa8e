//go:build cuda

package cuda_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce/nccl"
	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cuda"
)

var _ nccl.Lane = (*cuda.Lane)(nil)

// finish waits until the lane is done.
func finish(t *testing.T, l *cuda.Lane) {
	t.Helper()
	for {
		done, err := l.Done()
		require.NoError(t, err)
		if done {
			return
		}
		runtime.Gosched()
	}
}

// A lane that follows sees what the backend was given before, and its results are
// there when it is done: on the double, streams that nothing orders run in any
// order.
func TestLaneFollows(t *testing.T) {
	be := open(t)
	l := be.Lane()
	const n = 1000
	one := func(v []float32) tensor.Tensor {
		return tensor.Tensor{Buf: alloc(t, be, tensor.F32, v), Shape: tensor.Of(n)}
	}
	for round := range 20 {
		x, y := normal(round, n), normal(round+100, n)
		a, b, sum := one(x), one(make([]float32, n)), one(make([]float32, n))
		be.Upload(b.Buf, y)
		be.Scale(b, b, 2)
		follow, err := l.Mark()
		require.NoError(t, err)
		require.NoError(t, follow())
		buf, err := l.Alloc(tensor.F32, n)
		require.NoError(t, err)
		own := tensor.Tensor{Buf: l.Slice(buf, 0, n), Shape: tensor.Of(n)}
		l.Add(own, own, b) // new memory is zero on the lane too
		l.Add(sum, a, own)
		l.Copy(a, sum)
		l.Fill(b, 7)
		finish(t, l)
		want := make([]float32, n)
		for i := range want {
			want[i] = x[i] + 2*y[i]
		}
		require.Equal(t, want, download(t, be, sum.Buf))
		require.Equal(t, want, download(t, be, a.Buf))
		require.Equal(t, float32(7), download(t, be, b.Buf)[n-1])
		l.Free(buf)
	}
	require.NoError(t, be.Sync())
}

func TestLaneOfADevice(t *testing.T) {
	be := open(t)
	l := be.Lane()
	buf := alloc(t, be, tensor.F32, []float32{1, 2})
	p, ok := cuda.Pointer(buf)
	require.True(t, ok)
	require.Equal(t, p, l.Pointer(buf))
	require.NotEmpty(t, l.ID())
	require.NotZero(t, l.Stream())
	require.Equal(t, l.ID(), open(t).Lane().ID(), "another backend on the same device")
	called := false
	require.NoError(t, l.Current(func() error { called = true; return nil }))
	require.True(t, called)
}

// One goroutine computes, records and counts while another works on the lane: neither
// has the other's arguments, counts or failures.
func TestLaneBesideTheBackend(t *testing.T) {
	be := open(t)
	l := be.Lane()
	const n, rounds = 300, 40
	tensorOf := func(v []float32) tensor.Tensor { return tensor.Flat(alloc(t, be, tensor.F32, v)) }
	addend, other := normal(1, n), normal(2, n)
	x, sum := tensorOf(addend), tensorOf(make([]float32, n))
	y, total := tensorOf(other), tensorOf(make([]float32, n))
	follow, err := l.Mark()
	require.NoError(t, err)
	be.Count()
	var done sync.WaitGroup
	done.Go(func() {
		if !assert.NoError(t, follow()) {
			return
		}
		for range rounds {
			l.Add(sum, sum, x)
		}
		b, err := l.Alloc(tensor.F32, n)
		if assert.NoError(t, err) {
			own := tensor.Flat(b)
			l.Fill(own, 1)
			l.Copy(own, sum)
			l.Copy(sum, own)
		}
		assert.NoError(t, l.Err())
	})
	replay, err := be.Record(func() error { be.AddScaled(total, y, 1); return nil })
	require.NoError(t, err)
	for range rounds - 1 {
		require.NoError(t, replay())
		_ = be.Counts()
	}
	done.Wait()
	finish(t, l)
	counted := be.Counts()
	calls := map[string]int{}
	for _, o := range counted.Operations {
		calls[o.Name] += o.Calls
	}
	require.Equal(t, map[string]int{"add_f32": rounds, "add_scaled_f32": rounds, "fill_f32": 1, "device to device": 2}, calls)
	require.Equal(t, 1+rounds+3, counted.Launches)
	wantSum, wantTotal := make([]float32, n), make([]float32, n)
	for range rounds {
		for i := range n {
			wantSum[i] += addend[i]
			wantTotal[i] += other[i]
		}
	}
	require.Equal(t, wantSum, download(t, be, sum.Buf))
	require.Equal(t, wantTotal, download(t, be, total.Buf))
}
